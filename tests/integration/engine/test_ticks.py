"""Ticks say that the service schedules; a gap between them is stored once and never changes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.errors import UnavailableError
from app.models.coverage import Coverage, Gap
from app.models.execution import ExecutionStatus
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy
from app.repositories.ticks import AHEAD, TOLERANCE, Tick
from app.services import ticks as services_ticks
from app.services.ticks import TickService
from tests.support.commands import CommandLog
from tests.support.engine import Process, World, list_slots

MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
NONE = CatchUpPolicy(policy=CatchUpMode.NONE)


def ticks_of(process: Process) -> TickService:
    return process.scheduler._ticks


async def cover(process: Process) -> Coverage:
    return await ticks_of(process).cover()


async def read_document(world: World) -> dict[str, Any]:
    found = await world.database.collection("meta").find_one({"_id": "scheduling"})
    assert found is not None
    return dict(found)


async def test_slots_before_the_first_tick_are_late_except_those_of_the_last_ten_seconds(
    world: World,
) -> None:
    """A database of an earlier release has no tick."""
    now = world.clock.now()
    coverage = await cover(world.compose_process())
    first = Gap(datetime(2000, 1, 1, tzinfo=UTC), now - TOLERANCE - MILLISECOND, now)
    assert coverage.gaps == (first,)
    assert coverage.covered_until == now + AHEAD
    assert coverage.find_gap(now - TOLERANCE) is None


async def test_a_gap_is_logged_except_the_one_before_the_first_start(world: World) -> None:
    with capture_logs() as logs:
        covered_until = (await cover(world.compose_process())).covered_until
        world.clock.advance(MINUTE)
        await cover(world.compose_process())
    (line,) = [one for one in logs if one["event"] == "nothing_scheduled"]
    assert line["after"] == covered_until.isoformat()


async def test_without_ticks_for_at_most_ten_seconds_there_is_no_gap(world: World) -> None:
    process = world.compose_process()
    first = await cover(process)
    world.clock.advance(AHEAD + TOLERANCE)
    assert (await cover(process)).gaps == first.gaps


async def test_a_longer_time_without_ticks_is_a_gap_that_every_process_finds(
    world: World,
) -> None:
    one, two = world.compose_process(), world.compose_process()
    covered_until = (await cover(one)).covered_until
    await cover(two)
    world.clock.advance(MINUTE)
    now = world.clock.now()
    gaps = (await cover(one)).gaps
    assert gaps[1:] == (Gap(covered_until, now - TOLERANCE - MILLISECOND, now),)
    assert (await cover(two)).gaps == gaps
    assert (await cover(world.compose_process())).gaps == gaps


async def test_as_long_as_one_process_ticks_there_is_no_gap(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    gaps = (await cover(one)).gaps
    for _ in range(10):
        world.clock.advance(10 * SECOND)
        await cover(two)
    assert (await cover(one)).gaps == gaps


async def test_processes_that_find_a_gap_at_the_same_time_store_it_once(world: World) -> None:
    processes = [world.compose_process() for _ in range(8)]
    first = await cover(processes[0])
    world.clock.advance(DAY)
    found = await asyncio.gather(*(cover(process) for process in processes))
    assert len({coverage.gaps for coverage in found}) == 1
    assert len(found[0].gaps) == len(first.gaps) + 1


async def test_processes_that_start_at_the_same_time_store_one_first_gap(world: World) -> None:
    found = await asyncio.gather(*(cover(world.compose_process()) for _ in range(8)))
    assert len({coverage.gaps for coverage in found}) == 1


async def test_coverage_never_shrinks_when_the_clock_goes_back(world: World) -> None:
    """The clock of a new primary may be behind that of the old one."""
    process = world.compose_process()
    before = await cover(process)
    world.clock._now -= MINUTE
    after = await cover(world.compose_process())
    assert after.covered_until == before.covered_until
    assert after.gaps == before.gaps


async def test_a_process_ticks_at_most_once_in_two_seconds(
    counted: World, commands: CommandLog
) -> None:
    process = counted.compose_process()
    commands.clear()
    for _ in range(100):
        await process.scheduler.tick()
        counted.clock.advance(SECOND / 10)
    assert commands.count("findAndModify") == 5


async def test_the_time_until_the_next_tick_counts_from_before_the_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database may have stored the tick at any instant of the request."""
    process = world.compose_process()
    ticks = process.runtime.repositories.ticks
    tick = ticks.tick

    async def respond_late(**named: Any) -> Tick:
        stored = await tick(**named)
        world.clock.advance(SECOND)
        return stored

    monkeypatch.setattr(ticks, "tick", respond_late)
    await cover(process)
    assert ticks_of(process).get_rest() == SECOND


async def test_an_idle_scheduler_ticks_although_its_poll_interval_is_long(
    world: World,
) -> None:
    process = world.compose_process(poll_interval_seconds=60)
    gaps = (await cover(process)).gaps
    for _ in range(30):
        rest = await process.scheduler.tick()
        assert rest <= 2 * SECOND
        world.clock.advance(rest)
    assert (await cover(process)).gaps == gaps


async def test_an_idle_scheduler_makes_at_most_three_calls_per_second(
    counted: World, commands: CommandLog
) -> None:
    one, two = counted.compose_process(), counted.compose_process()
    await counted.add_job(counted.every(3_600))
    await one.schedule()
    await two.schedule()
    commands.clear()
    seconds = 0.0
    while seconds < 60:
        rest = await one.scheduler.tick()
        counted.clock.advance(rest)
        seconds += rest.total_seconds()
    assert commands.count() <= 3 * 60


async def test_nothing_is_fired_without_an_acknowledged_tick(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be unknown whether the tick was stored, but then nothing is decided by it."""
    process = world.compose_process()
    await cover(process)
    job = await world.add_job(world.every(60), catch_up=NONE)
    world.clock.advance(MINUTE)

    async def fail(**_: object) -> None:
        raise UnavailableError("the database does not respond")

    with monkeypatch.context() as patch:
        patch.setattr(process.runtime.repositories.ticks, "tick", fail)
        with pytest.raises(UnavailableError):
            await process.scheduler.tick()
        due = await world.jobs.list_due(world.clock.now(), limit=10)
        with pytest.raises(UnavailableError):
            await process.firing.fire(due, world.clock.now())
    assert await world.list_executions(job) == []

    await process.schedule()
    assert [e.status for e in await world.list_executions(job)] == [ExecutionStatus.QUEUED]


async def test_a_slot_after_the_coverage_is_not_fired(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the primary that is read may be ahead of the one that took the tick."""
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    behind = Coverage(world.clock.now() - MILLISECOND)

    async def stay_behind(now: datetime | None = None) -> Coverage:
        return behind

    monkeypatch.setattr(ticks_of(process), "cover", stay_behind)
    assert await process.firing.fire(due, world.clock.now()) == 0
    assert await world.list_executions(job) == []


async def test_a_process_that_serves_only_the_api_ticks_when_it_fires(world: World) -> None:
    process = world.compose_process()
    gaps = (await cover(process)).gaps
    job = await world.add_job(world.every(60), catch_up=NONE)
    world.clock.advance(MINUTE)
    api = world.api
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    assert await api.firing.fire(due, world.clock.now()) == 1
    assert list_slots(await world.list_executions(job)) == [world.clock.now()]
    document = await read_document(world)
    assert len(document["gaps"]) == len(gaps) + 1
    assert [one["id"] for one in document["schedulers"]] == []


async def test_schedulers_that_stop_or_do_not_tick_are_no_longer_live(world: World) -> None:
    one, two, three = (world.compose_process() for _ in range(3))
    for process in (one, two):
        await cover(process)
    assert (await cover(three)).schedulers == ("process-1", "process-2", "process-3")
    await one.scheduler.leave()
    world.clock.advance(2 * SECOND)
    assert (await cover(three)).schedulers == ("process-2", "process-3")
    world.clock.advance(9 * SECOND)
    assert (await cover(three)).schedulers == ("process-3",)


async def test_ticks_that_are_answered_out_of_order_lose_no_gap(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    ticks = process.runtime.repositories.ticks
    tick, is_answered = ticks.tick, asyncio.Event()

    async def answer_late(**changes: Any) -> Tick:
        monkeypatch.setattr(ticks, "tick", tick)
        stored = await tick(**changes)
        is_stored.set()
        await is_answered.wait()
        return stored

    is_stored = asyncio.Event()
    monkeypatch.setattr(ticks, "tick", answer_late)
    early = asyncio.create_task(cover(process))
    await is_stored.wait()
    world.clock.advance(MINUTE)
    later = await cover(process)
    is_answered.set()
    assert await early == later
    assert await cover(process) == later
    assert len(later.gaps) == 2


async def test_more_than_a_thousand_gaps_are_kept_only_if_a_job_may_have_a_slot_in_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services_ticks, "MAX_GAPS", 5)
    process = world.compose_process()
    await cover(process)

    async def pass_gaps(count: int) -> list[Any]:
        for _ in range(count):
            world.clock.advance(MINUTE)
            await cover(process)
        return list((await read_document(world))["gaps"])

    newest = (await pass_gaps(10))[-5:]
    assert (await read_document(world))["gaps"] == newest
    await world.add_job(world.every(30))
    assert len(await pass_gaps(10)) == 10  # those before the job are gone
    await process.schedule()
    assert len(await pass_gaps(1)) == 5


async def test_old_gaps_are_deleted_unless_a_job_may_have_a_slot_in_them(world: World) -> None:
    process = world.compose_process()
    await cover(process)
    job = await world.add_job(world.every(60), overlap_policy=OverlapPolicy.ALLOW_ALL)
    for _ in range(3):
        world.clock.advance(20 * DAY)
        await cover(process)
    # The first gap ended before the job was created; the others have slots of the job.
    assert len((await read_document(world))["gaps"]) == 3
    await process.schedule()  # the job is no longer in the old gaps
    world.clock.advance(20 * DAY)
    await cover(process)
    kept = (await read_document(world))["gaps"]
    assert [world.clock.now() - gap["found_at"] for gap in kept] == [20 * DAY, timedelta(0)]
    assert sum(e.missed_count or 0 for e in await world.list_executions(job)) > 80_000
