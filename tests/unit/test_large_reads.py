"""How many large reads are in progress at the same time."""

import asyncio
from collections import Counter

from app.services.large_reads import MOST, MOST_OF_A_USER, LargeReads
from tests.support.waiting import run_other_tasks


class Reads:
    """Reads of users that end when they are told to."""

    def __init__(self) -> None:
        self._reads = LargeReads()
        self.begun: Counter[str] = Counter()
        self.may_end = asyncio.Event()

    async def read(self, user: str) -> None:
        async with self._reads.enter(user):
            self.begun[user] += 1
            await self.may_end.wait()


async def test_a_user_has_two_large_reads_in_progress_and_all_have_eight() -> None:
    reads = Reads()
    users = "abcde"
    tasks = [asyncio.create_task(reads.read(user)) for user in users for _ in range(100)]
    await run_other_tasks(5)
    assert reads.begun == dict.fromkeys(users[: MOST // MOST_OF_A_USER], MOST_OF_A_USER)
    reads.may_end.set()
    await asyncio.gather(*tasks)
    assert reads.begun == dict.fromkeys(users, 100)


async def test_a_cancelled_read_makes_room() -> None:
    reads = Reads()
    tasks = [asyncio.create_task(reads.read("a")) for _ in range(4)]
    await run_other_tasks(5)
    tasks[0].cancel()
    tasks[2].cancel()  # it waits
    await run_other_tasks(5)
    assert reads.begun["a"] == 3
    reads.may_end.set()
    await asyncio.gather(*tasks, return_exceptions=True)
