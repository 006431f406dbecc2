"""All processes decide the same about a slot, so that no slot is lost or recorded twice."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.models.execution import Execution, ExecutionKind, ExecutionStatus, Reason
from app.models.job import Job
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy
from app.models.schedule import IntervalSchedule
from tests.support.engine import Process, World, list_slots

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
POLICIES = [CatchUpPolicy(policy=mode, window_seconds=90) for mode in CatchUpMode]


def count_decisions(executions: list[Execution], period: timedelta) -> Counter[datetime]:
    """Count how often each slot is recorded or included in a `missed` record."""
    return Counter(
        execution.scheduled_for + n * period
        for execution in executions
        for n in range(execution.missed_count or 1)
    )


async def assert_each_slot_once(world: World, job: Job, until: datetime) -> None:
    [schedule] = job.schedules
    assert isinstance(schedule, IntervalSchedule)
    period = timedelta(seconds=schedule.interval_seconds)
    expected = (until - schedule.anchor_at) // period
    counted = count_decisions(await world.list_executions(job), period)
    assert counted == {schedule.anchor_at + (n + 1) * period: 1 for n in range(expected)}


async def fire_before(
    process: Process, method: str, act: Callable[[], Awaitable[Any]], *, call: int = 1
) -> None:
    """Let `process` fire, and `act` just before its call of this method of the executions."""
    executions = process.runtime.repositories.executions
    original = getattr(executions, method)
    calls = 0

    async def act_first(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            await act()
        return await original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executions, method, act_first)
        await process.scheduler.tick()


@pytest.fixture
async def processes(world: World) -> list[Process]:
    """Two processes that schedule all jobs, as if the other one were not live."""
    processes = [world.compose_process(), world.compose_process()]
    for process in processes:
        process.scheduler._ticks.scheduler = None
        await process.scheduler.tick()
    return processes


@pytest.mark.parametrize("catch_up", POLICIES, ids=lambda policy: policy.policy)
@pytest.mark.parametrize("call", [1, 2], ids=["before-missed", "before-runs"])
async def test_two_schedulers_on_a_backlog_record_each_slot_once(
    world: World, processes: list[Process], catch_up: CatchUpPolicy, call: int
) -> None:
    """The first one has decided and inserts later, when the second one has seen more slots."""
    one, two = processes
    job = await world.add_job(
        world.every(1), catch_up=catch_up, overlap_policy=OverlapPolicy.ALLOW_ALL
    )

    async def fire_later() -> None:
        world.clock.advance(15 * SECOND)
        await two.schedule()

    for _ in range(3):
        world.clock.advance(30 * SECOND)
        await fire_before(one, "insert_many", fire_later, call=call)
    await two.schedule()
    await assert_each_slot_once(world, job, world.clock.now())


@pytest.mark.parametrize("catch_up", POLICIES, ids=lambda policy: policy.policy)
async def test_a_scheduler_that_is_frozen_across_two_gaps_records_no_slot_twice(
    world: World, processes: list[Process], catch_up: CatchUpPolicy
) -> None:
    one, two = processes
    job = await world.add_job(
        world.every(5), catch_up=catch_up, overlap_policy=OverlapPolicy.ALLOW_ALL
    )

    async def pass_two_gaps() -> None:
        for _ in range(2):
            world.clock.advance(MINUTE)
            await two.schedule()

    world.clock.advance(MINUTE)
    for call in (1, 2):
        await fire_before(one, "insert_many", pass_two_gaps, call=call)
    await two.schedule()
    await assert_each_slot_once(world, job, world.clock.now())


async def test_a_backlog_of_a_service_that_schedules_is_executed_however_long_it_takes(
    world: World, processes: list[Process]
) -> None:
    """Under `none` a late slot would be lost."""
    one, two = processes
    none = CatchUpPolicy(policy=CatchUpMode.NONE)
    job = await world.add_job(world.every(1), catch_up=none, overlap_policy=OverlapPolicy.ALLOW_ALL)
    for _ in range(20):  # one of the processes is busy with other jobs
        world.clock.advance(5 * SECOND)
        await two.scheduler._ticks.cover()
    await one.schedule()
    executions = await world.list_executions(job)
    assert len(executions) == 100
    assert {e.status for e in executions} == {ExecutionStatus.QUEUED}


async def test_a_herd_loses_nothing_while_its_records_are_written_slowly(
    world: World, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = processes
    none = CatchUpPolicy(policy=CatchUpMode.NONE)
    template = await world.add_job(world.every(60), catch_up=none)
    await insert_copies(world, template, 1_999)
    world.clock.advance(MINUTE - 5 * SECOND)
    await one.schedule()
    world.clock.advance(5 * SECOND)
    advance = one.runtime.repositories.jobs.advance

    async def advance_slowly(advances: Any) -> int:
        world.clock.advance(12 * SECOND)
        return await advance(advances)

    monkeypatch.setattr(one.runtime.repositories.jobs, "advance", advance_slowly)
    for _ in range(8):
        await asyncio.gather(one.scheduler.tick(), two.scheduler.tick())
    found = world.database.collection("executions")
    assert await found.count_documents({"status": "missed"}) == 0
    assert await found.count_documents({"status": "queued"}) == 2_000


async def insert_copies(world: World, template: Job, count: int) -> None:
    jobs = world.database.collection("jobs")
    document = await jobs.find_one({"_id": template.id})
    assert document is not None
    [schedule] = document["schedules"]
    copies = [
        document | {"_id": world.new_id(), "schedules": [schedule | {"id": world.new_id()}]}
        for _ in range(count)
    ]
    await jobs.insert_many(copies)


@pytest.mark.parametrize("jobs", [10, 600])
async def test_late_slots_of_many_jobs_do_not_delay_a_job_that_is_on_time(
    world: World, jobs: int
) -> None:
    process = world.compose_process()
    await process.schedule()
    every_slot = CatchUpPolicy(policy=CatchUpMode.ALL)
    template = await world.add_job(world.every(1), catch_up=every_slot)
    await insert_copies(world, template, jobs - 1)
    world.clock.advance(10 * MINUTE)
    on_time = await world.add_job(world.every(1))
    world.clock.advance(SECOND)

    await process.scheduler.tick()

    assert len(await world.list_executions(on_time)) == 1
    late = await world.database.collection("executions").count_documents({})
    assert 1_000 <= late <= 1_500


async def test_after_an_upgrade_the_missed_record_of_the_earlier_release_is_continued(
    world: World,
) -> None:
    """It depended on the instant, and its process was killed before it advanced `next_run`."""
    process = world.compose_process()
    none = CatchUpPolicy(policy=CatchUpMode.NONE)
    job = await world.add_job(world.every(5, max_runs=100), catch_up=none)
    [schedule] = job.schedules
    world.clock.advance(MINUTE)
    first = job.created_at + 5 * SECOND
    record = (await world.queue(job)).model_copy(
        update={
            "id": world.new_id(),
            "kind": ExecutionKind.SCHEDULED,
            "schedule_id": schedule.id,
            "scheduled_for": first,
        }
    )
    missed = record.miss(until=first + 10 * SECOND, count=3, now=world.clock.now())
    await world.executions.insert(missed)

    await process.schedule()

    spans = [e for e in await world.list_executions(job) if e.status == "missed"]
    assert [(e.scheduled_for, e.missed_count) for e in spans] == [
        (first, 3),
        (first + 15 * SECOND, 6),
    ]
    assert spans[-1].missed_until == world.clock.now() - 15 * SECOND
    # Only the first slot on time counts: the others are skipped or missed.
    stored = await world.jobs.get(job.id, owner_id=None)
    assert stored.schedules[0].runs == 1


async def test_after_an_upgrade_a_slot_that_the_earlier_release_queued_is_not_missed_too(
    world: World,
) -> None:
    process = world.compose_process()
    none = CatchUpPolicy(policy=CatchUpMode.NONE)
    job = await world.add_job(
        world.every(5, max_runs=100), catch_up=none, overlap_policy=OverlapPolicy.ALLOW_ALL
    )
    [schedule] = job.schedules
    first = job.created_at + 5 * SECOND
    execution = await world.queue(
        job, kind=ExecutionKind.SCHEDULED, schedule_id=schedule.id, scheduled_for=first
    )
    world.clock.advance(MINUTE)
    await process.schedule()
    executions = await world.list_executions(job)
    assert executions[0].id == execution.id
    await assert_each_slot_once(world, job, world.clock.now())
    stored = await world.jobs.get(job.id, owner_id=None)
    assert stored.schedules[0].runs == 1 + 3  # the queued one, and three of the last ten seconds


@pytest.mark.parametrize("policy", ["skip", "buffer_one", "buffer_all"])
async def test_late_slots_of_catch_up_all_wait_for_each_other(world: World, policy: str) -> None:
    process = world.compose_process()
    everything = CatchUpPolicy(policy=CatchUpMode.ALL)
    job = await world.add_job(
        world.every(60), catch_up=everything, overlap_policy=OverlapPolicy(policy)
    )
    world.clock.advance(150 * MINUTE + 30 * SECOND)
    await process.schedule()

    executions = await world.list_executions(job)
    assert len(executions) == 150
    assert [e.waiting for e in executions] == [False, *[True] * 149]
    world.clock.advance(MINUTE - 30 * SECOND)
    await process.schedule()
    on_time = (await world.list_executions(job))[-1]
    reason = Reason.OVERLAP if policy == "skip" else Reason.BUFFER_FULL
    assert (on_time.status, on_time.reason) == (ExecutionStatus.SKIPPED, reason)


async def test_each_gap_executes_its_latest_slot(world: World) -> None:
    process = world.compose_process()
    await process.schedule()
    job = await world.add_job(world.every(60), overlap_policy=OverlapPolicy.ALLOW_ALL)
    start = world.clock.now()
    for minutes in (5.5, 4):
        world.clock.advance(minutes * MINUTE)
        await process.scheduler._ticks.cover()
    await process.schedule()

    executions = await world.list_executions(job)
    assert [e.missed_count for e in executions] == [4, None, 3, None]
    assert list_slots(executions) == [start + n * MINUTE for n in (1, 5, 6, 9)]
