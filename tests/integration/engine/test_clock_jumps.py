"""The clock of the database jumps: no slot is recorded twice, lost, or decided before its time."""

from datetime import timedelta

import pytest

from app.errors import BusyError
from app.models.execution import ExecutionStatus
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy
from app.models.schedule import OneTimeSchedule
from app.models.user import THE_SERVICE
from app.schemas.jobs import JobUpdate
from tests.support.commands import CommandLog
from tests.support.engine import World, list_slots

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
ALLOW_ALL = OverlapPolicy.ALLOW_ALL


def jump(world: World, by: timedelta) -> None:
    """Move the clock of the database, as if no time passed."""
    world.clock._now += by


@pytest.mark.parametrize("mode", CatchUpMode)
async def test_slots_of_a_stored_gap_wait_until_it_has_passed(
    world: World, mode: CatchUpMode
) -> None:
    process = world.compose_process()
    await process.schedule()
    start = world.clock.now()
    jump(world, MINUTE)
    world.clock.advance(2 * SECOND)
    await process.schedule()  # stores a gap that ends 52 s after the start
    jump(world, -MINUTE)
    job = await world.add_job(
        world.every(5), catch_up=CatchUpPolicy(policy=mode), overlap_policy=ALLOW_ALL
    )
    while world.clock.now() < start + 50 * SECOND:
        world.clock.advance(2 * SECOND)
        await process.schedule()
        assert await world.list_executions(job) == []
    while world.clock.now() < start + MINUTE:
        world.clock.advance(2 * SECOND)
        await process.schedule()

    executions = await world.list_executions(job)
    # 7, 12 … 47 s after the start are late, 52 s is the first slot after the gap but for its edge.
    decided = sum(execution.missed_count or 1 for execution in executions)
    assert decided == (world.clock.now() - job.created_at) // (5 * SECOND)
    by_mode = {CatchUpMode.NONE: 0, CatchUpMode.ONE: 1, CatchUpMode.ALL: 9}
    late = [
        e for e in executions if e.missed_count is None and e.scheduled_for < start + 51 * SECOND
    ]
    assert len(late) == by_mode[mode]


async def test_a_slot_that_waits_for_the_end_of_a_gap_causes_no_reads(
    counted: World, commands: CommandLog
) -> None:
    process = counted.compose_process()
    await process.schedule()
    jump(counted, MINUTE)
    counted.clock.advance(2 * SECOND)
    await process.schedule()
    jump(counted, -MINUTE)
    await counted.add_job(counted.every(5))
    counted.clock.advance(10 * SECOND)
    commands.clear()
    rounds = 0
    end = counted.clock.now() + 20 * SECOND
    while counted.clock.now() < end:
        counted.clock.advance(await process.scheduler.tick())
        rounds += 1
    assert rounds <= 31  # one a poll interval, and one a tick
    assert commands.count() <= 2 * rounds


async def test_a_slot_that_waits_for_the_end_of_a_gap_delays_edits(world: World) -> None:
    process = world.compose_process()
    await process.schedule()
    jump(world, MINUTE)
    world.clock.advance(2 * SECOND)
    await process.schedule()
    jump(world, -MINUTE)
    job = await world.add_job(world.every(5), overlap_policy=ALLOW_ALL)
    world.clock.advance(10 * SECOND)
    with pytest.raises(BusyError):
        await process.runtime.jobs.pause(THE_SERVICE, job.id)
    world.clock.advance(MINUTE)
    assert not (await process.runtime.jobs.pause(THE_SERVICE, job.id)).active


@pytest.mark.parametrize("mode", CatchUpMode)
async def test_a_job_that_is_resumed_after_the_clock_jumped_back_records_no_slot_twice(
    world: World, mode: CatchUpMode
) -> None:
    process = world.compose_process()
    await process.schedule()
    job = await world.add_job(
        world.every(5, max_runs=60), catch_up=CatchUpPolicy(policy=mode), overlap_policy=ALLOW_ALL
    )
    world.clock.advance(2 * MINUTE)
    await process.schedule()
    jump(world, -MINUTE)
    await process.runtime.jobs.pause(THE_SERVICE, job.id)
    await process.runtime.jobs.resume(THE_SERVICE, job.id)
    for _ in range(30):
        world.clock.advance(5 * SECOND)
        await process.schedule()

    executions = await world.list_executions(job)
    decided = sum(execution.missed_count or 1 for execution in executions)
    assert decided == (world.clock.now() - job.created_at) // (5 * SECOND)
    [schedule] = (await world.jobs.get(job.id, owner_id=None)).schedules
    runs = [e for e in executions if e.status is not ExecutionStatus.MISSED]
    assert schedule.runs == len(runs)


async def test_an_edit_after_the_clock_jumped_back_starts_after_the_last_recorded_slot(
    world: World,
) -> None:
    process = world.compose_process()
    await process.schedule()
    job = await world.add_job(world.every(5), overlap_policy=ALLOW_ALL)
    world.clock.advance(30 * SECOND)
    await process.schedule()
    last = list_slots(await world.list_executions(job))[-1]
    jump(world, -MINUTE / 2)
    [schedule] = job.schedules
    body = JobUpdate.model_validate(
        {"schedules": [{"id": schedule.id, "type": "interval", "interval_seconds": 2}]}
    )
    edited = await process.runtime.jobs.edit(THE_SERVICE, job.id, body)
    assert edited.next_run == edited.schedules[0].next_run == last + 2 * SECOND


async def test_a_one_time_job_does_not_run_again_when_it_is_resumed_before_its_slot(
    world: World,
) -> None:
    process = world.compose_process()
    await process.schedule()
    at = world.clock.now() + 10 * SECOND
    job = await world.add_job(OneTimeSchedule(id=world.new_id(), run_at=at))
    world.clock.advance(10 * SECOND)
    await process.schedule()
    jump(world, -MINUTE)
    await process.runtime.jobs.pause(THE_SERVICE, job.id)
    resumed = await process.runtime.jobs.resume(THE_SERVICE, job.id)
    assert resumed.next_run is None


async def test_a_pause_after_an_outage_fires_all_that_is_due(world: World) -> None:
    """Each firing records at most 1,000 slots of a job."""
    process = world.compose_process()
    await process.schedule()
    every_slot = CatchUpPolicy(policy=CatchUpMode.ALL)
    job = await world.add_job(
        *(world.every(60) for _ in range(12)), catch_up=every_slot, overlap_policy=ALLOW_ALL
    )
    world.clock.advance(900 * MINUTE)
    paused = await process.runtime.jobs.pause(THE_SERVICE, job.id)
    assert not paused.active
    executions = world.database.collection("executions")
    assert await executions.count_documents({}) == 12 * 900
