"""Limits the large reads that are in progress at the same time, because each needs much memory."""

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

MOST = 8
"""In progress in this process. A page of 4 MB needs up to 20 MB until its response is written."""

MOST_OF_A_USER = 2


class LargeReads:
    """Pages of listings and single executions that are read and rendered. The others wait, the
    users in turn: of each user at most `MOST_OF_A_USER` are in the line of all."""

    def __init__(self) -> None:
        self._all = Semaphore(MOST)
        self._of_user: WeakValueDictionary[str, Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def enter(self, user_id: str) -> AsyncIterator[None]:
        """Wait until a read may begin; it ends with the `async with` statement."""
        own = self._of_user.get(user_id)
        if own is None:
            own = self._of_user[user_id] = Semaphore(MOST_OF_A_USER)
        async with own, self._all:
            yield
