"""The limit of stored responses per owner: which headers and bodies this process may store."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog

from app.clock import Clock
from app.engine.loop import AT_ONCE
from app.repositories.stored_responses import StoredResponseRepository

_log = structlog.get_logger(__name__)

_MAX_AGE = timedelta(seconds=30)
"""After this time the size of an owner is read again."""
_BETWEEN_READS = timedelta(seconds=1)
_OWNERS = 100
_SHARES_OF_LIMIT = 64
"""With the smallest limit, 10 MB, a share has room for one response of the largest size, 80 KB."""
_SHARES_OF_REST = 16
"""Before the first read of an owner, the rest is the limit."""


@dataclass(slots=True)
class _Usage:
    """What is known about an owner's stored responses."""

    stored: int | None = None
    """Their size at the last read; None before the first read."""
    added: int = 0
    """What this process has stored since then."""
    read_at: float = 0.0
    is_refused: bool = False


class HistoryLimit:
    """Knows the size of each owner's stored responses, by reads of the database.

    Each read is a sum over index keys, so it is also right after crashes and removals. Between two
    reads a process stores at most 1/16 of what was left to the limit, or 1/64 of the limit if that
    is more. Meanwhile others may store what was left, so each process exceeds the limit by at most
    this share, and what it was writing during the read.

    An owner of whom nothing was stored since the last read is forgotten, if 1/16 of the limit is
    left. The others are read every 30 seconds, so a burst never begins anew with 1/16 of the limit.
    """

    def __init__(self, *, responses: StoredResponseRepository, limit: int, clock: Clock) -> None:
        self.wake = asyncio.Event()
        """Set when an owner must be read before the next round."""
        self._responses = responses
        self._limit = limit
        self._clock = clock
        self._usages: dict[str, _Usage] = {}

    def take(self, owner_id: str, size: int) -> bool:
        """Whether a response of this size may be stored; if so, it counts as stored."""
        usage = self._usages.setdefault(owner_id, _Usage())
        added = usage.added + size
        fits = added <= self._count_most_added(usage) and (usage.stored or 0) + added <= self._limit
        if fits:
            usage.added = added
        elif not usage.is_refused:
            usage.is_refused = True
            _log.warning("responses_not_stored", owner_id=owner_id, limit_bytes=self._limit)
        if self._must_be_read_now(usage):
            self.wake.set()
        return fits

    def give_back(self, owner_id: str, size: int) -> None:
        """A response that `take` allowed was not stored."""
        usage = self._usages.get(owner_id)
        if usage is not None:
            usage.added = max(0, usage.added - size)

    async def tick(self) -> timedelta:
        """Read the sizes of up to 100 owners whose known size is too old."""
        now = self._clock.monotonic()
        self._forget(now)
        due = [owner_id for owner_id, usage in self._usages.items() if self._is_due(usage, now)]
        part = due[:_OWNERS]
        if not part:
            return _BETWEEN_READS
        added = {owner_id: self._usages[owner_id].added for owner_id in part}
        for owner_id, stored in (await self._responses.sum_bytes(part)).items():
            usage = self._usages[owner_id]
            # What was added during the read may be missing in the sum.
            usage.stored, usage.added = stored, max(0, usage.added - added[owner_id])
            usage.read_at = now
            usage.is_refused = usage.is_refused and stored >= self._limit
        return AT_ONCE if len(due) > _OWNERS else _BETWEEN_READS

    def _forget(self, now: float) -> None:
        self._usages = {
            owner_id: usage
            for owner_id, usage in self._usages.items()
            if not self._is_old(usage, now) or usage.added or self._is_near_limit(usage)
        }

    def _is_near_limit(self, usage: _Usage) -> bool:
        """Whether a process that has forgotten the owner could exceed the limit."""
        return self._limit - (usage.stored or 0) < self._limit // _SHARES_OF_REST

    def _is_due(self, usage: _Usage, now: float) -> bool:
        return self._is_old(usage, now) or self._must_be_read_now(usage)

    def _is_old(self, usage: _Usage, now: float) -> bool:
        return now - usage.read_at >= _MAX_AGE.total_seconds()

    def _must_be_read_now(self, usage: _Usage) -> bool:
        return usage.stored is None or usage.added > self._count_most_added(usage) // 2

    def _count_most_added(self, usage: _Usage) -> int:
        rest = self._limit - (usage.stored or 0)
        return max(self._limit // _SHARES_OF_LIMIT, rest // _SHARES_OF_REST)
