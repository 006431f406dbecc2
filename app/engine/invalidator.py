"""The invalidator: drops the cached responses of owners whose jobs this process has moved."""

from datetime import timedelta

from app.cache import Cache

_INTERVAL = timedelta(seconds=1)
"""At most one drop of an owner's responses in this time, however often its jobs run."""


class Invalidator:
    """Makes moved jobs visible. Owners whose jobs rest keep their cached responses."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def tick(self) -> timedelta:
        """One round. The owners of changes during a round belong to the next one."""
        await self._cache.drop_moved()
        return _INTERVAL
