"""The limits of name lookups: the time, the number for each owner, and the unanswered names."""

import asyncio
import socket
from collections import Counter
from datetime import timedelta

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from app.targets.resolver import (
    LOOKUP_LIMIT,
    MAX_LOOKUPS_OF_OWNER,
    MAX_UNANSWERED,
    UNANSWERED_FOR,
    LimitedResolver,
    UnansweredError,
    look_up_for,
)
from tests.support.clock import ManualClock
from tests.support.waiting import run_other_tasks

MILLISECOND = timedelta(milliseconds=1)
TURNS = 10


class HangingResolver(AbstractResolver):
    """Never finds a name, unless it is in `known`."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.calls = 0
        self.known: set[str] = set()
        self.fails_with: OSError | None = None
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.calls += 1
        if host in self.known:
            return []
        if self.fails_with:
            raise self.fails_with
        self.running[host] += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.running[host] -= 1
        raise AssertionError

    async def close(self) -> None:
        self.closed = True


class Lookups:
    """A limited resolver on a resolver that hangs, with a clock that tests move."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.inner = HangingResolver()
        self.resolver = LimitedResolver(self.inner, clock=self.clock)

    async def look_up(self, host: str, owner_id: str = "alice") -> list[ResolveResult]:
        with look_up_for(owner_id):
            return await self.resolver.resolve(host)

    def start(self, host: str, owner_id: str = "alice") -> "asyncio.Task[list[ResolveResult]]":
        return asyncio.create_task(self.look_up(host, owner_id))

    async def fail(self, host: str) -> None:
        """Look a name up until the limit."""
        lookup = self.start(host)
        await run_other_tasks(TURNS)
        self.clock.advance(LOOKUP_LIMIT)
        with pytest.raises(UnansweredError):
            await lookup


@pytest.fixture
def lookups() -> Lookups:
    return Lookups()


async def test_a_lookup_ends_after_two_seconds(lookups: Lookups) -> None:
    lookup = lookups.start("slow.test")
    await run_other_tasks(TURNS)
    lookups.clock.advance(LOOKUP_LIMIT - MILLISECOND)
    await run_other_tasks(TURNS)
    assert not lookup.done()
    lookups.clock.advance(MILLISECOND)
    with pytest.raises(UnansweredError):
        await lookup
    assert timedelta(seconds=2) == LOOKUP_LIMIT


async def test_an_owner_has_at_most_four_lookups_at_once(lookups: Lookups) -> None:
    waiting = [lookups.start(f"{number}.test") for number in range(50)]
    await run_other_tasks(TURNS)
    assert lookups.inner.running.total() == MAX_LOOKUPS_OF_OWNER == 4
    lookups.clock.advance(LOOKUP_LIMIT)
    await run_other_tasks(TURNS)
    assert lookups.inner.running.total() == MAX_LOOKUPS_OF_OWNER
    assert lookups.inner.calls == 2 * MAX_LOOKUPS_OF_OWNER
    for lookup in waiting:
        lookup.cancel()
    await asyncio.wait(waiting)


async def test_the_slow_names_of_an_owner_do_not_delay_another_owner(lookups: Lookups) -> None:
    lookups.inner.known.add("good.test")
    waiting = [lookups.start(f"{number}.test") for number in range(50)]
    behind = lookups.start("good.test")
    await run_other_tasks(TURNS)
    assert await lookups.look_up("good.test", "bob") == []
    assert not behind.done()
    for lookup in (*waiting, behind):
        lookup.cancel()
    await asyncio.wait([*waiting, behind])


async def test_an_unanswered_name_fails_immediately_for_thirty_seconds(lookups: Lookups) -> None:
    await lookups.fail("slow.test")
    lookups.clock.advance(UNANSWERED_FOR - MILLISECOND)
    for owner_id in ("alice", "bob"):
        with pytest.raises(UnansweredError):
            await lookups.look_up("slow.test", owner_id)
    assert lookups.inner.calls == 1
    lookups.clock.advance(MILLISECOND)
    lookups.inner.known.add("slow.test")
    assert await lookups.look_up("slow.test") == []


async def test_lookups_of_a_name_that_wait_end_when_it_stays_unanswered(lookups: Lookups) -> None:
    waiting = [lookups.start("slow.test") for _ in range(50)]
    await run_other_tasks(TURNS)
    lookups.clock.advance(LOOKUP_LIMIT)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(error) for error in errors} == {UnansweredError}
    assert lookups.inner.calls == MAX_LOOKUPS_OF_OWNER


async def test_a_name_is_remembered_if_the_resolver_gives_up_before_the_limit(
    lookups: Lookups,
) -> None:
    lookups.inner.fails_with = UnansweredError()
    for _ in range(2):
        with pytest.raises(UnansweredError):
            await lookups.look_up("slow.test")
    assert lookups.inner.calls == 1


async def test_a_name_that_does_not_exist_is_not_remembered(lookups: Lookups) -> None:
    lookups.inner.fails_with = OSError(None, "Domain name not found")
    for _ in range(2):
        with pytest.raises(OSError, match="not found"):
            await lookups.look_up("unknown.test")
    assert lookups.inner.calls == 2


async def test_a_cancelled_lookup_frees_its_place_and_is_not_remembered(lookups: Lookups) -> None:
    waiting = [lookups.start("slow.test") for _ in range(5)]
    await run_other_tasks(TURNS)
    for lookup in waiting:
        lookup.cancel()
    await asyncio.wait(waiting)
    lookups.inner.known.add("slow.test")
    assert await lookups.look_up("slow.test") == []


async def test_memory_is_bounded_however_many_names_and_owners_there_are(lookups: Lookups) -> None:
    lookups.inner.fails_with = UnansweredError()
    for number in range(MAX_UNANSWERED + 10):
        with pytest.raises(UnansweredError):
            await lookups.look_up(f"{number}.test", str(number))
    assert len(lookups.resolver._unanswered) == MAX_UNANSWERED
    assert lookups.resolver._places == {}
    calls = lookups.inner.calls
    for host in ("10.test", f"{MAX_UNANSWERED + 9}.test"):  # the oldest were forgotten first
        with pytest.raises(UnansweredError):
            await lookups.look_up(host)
    assert lookups.inner.calls == calls


async def test_a_name_that_is_unanswered_again_is_not_the_next_to_be_forgotten(
    lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.targets.resolver.MAX_UNANSWERED", 2)
    lookups.inner.fails_with = UnansweredError()

    async def look_up_and_count(host: str) -> int:
        calls = lookups.inner.calls
        with pytest.raises(UnansweredError):
            await lookups.look_up(host)
        return lookups.inner.calls - calls

    assert [await look_up_and_count(host) for host in ("one.test", "two.test")] == [1, 1]
    lookups.clock.advance(UNANSWERED_FOR)
    assert [await look_up_and_count(host) for host in ("one.test", "three.test")] == [1, 1]
    assert await look_up_and_count("one.test") == 0


async def test_closing_closes_the_other_resolver(lookups: Lookups) -> None:
    await lookups.resolver.close()
    assert lookups.inner.closed
