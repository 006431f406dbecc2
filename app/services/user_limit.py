"""Limits the requests of one kind that are in progress at the same time."""

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class UserLimit:
    """At most `most` are in progress in this process. The others wait, the users in turn: of each
    user at most `most_of_a_user` are in the line of all."""

    def __init__(self, *, most: int, most_of_a_user: int) -> None:
        self._all = Semaphore(most)
        self._most_of_a_user = most_of_a_user
        self._of_user: WeakValueDictionary[str, Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def enter(self, user_id: str) -> AsyncIterator[None]:
        """Wait until a request may begin; it ends with the `async with` statement."""
        own = self._of_user.get(user_id)
        if own is None:
            own = self._of_user[user_id] = Semaphore(self._most_of_a_user)
        async with own, self._all:
            yield
