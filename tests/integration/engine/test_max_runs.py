"""`runs` counts the records of a schedule, whoever stored them. It never exceeds `max_runs`."""

from datetime import timedelta
from typing import Any

import pytest

from app.models.execution import ExecutionKind, ExecutionStatus, Reason
from app.models.job import Job
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy
from app.repositories.executions import InsertResult
from tests.support.crash import Killed
from tests.support.engine import Process, World

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
EXECUTING = [policy for policy in OverlapPolicy if policy is not OverlapPolicy.SKIP]


async def read_runs(world: World, job: Job) -> int:
    return (await world.jobs.get(job.id, owner_id=None)).schedules[0].runs


async def count_scheduled(world: World, job: Job) -> int:
    """Count the records that count towards `max_runs`."""
    not_counted = {ExecutionStatus.SKIPPED, ExecutionStatus.MISSED}
    executions = await world.list_executions(job)
    return sum(e.schedule_id is not None and e.status not in not_counted for e in executions)


async def kill_before_advance(process: Process) -> None:
    async def kill(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process.runtime.repositories.jobs, "advance", kill)
        with pytest.raises(Killed):
            await process.scheduler.tick()


@pytest.mark.parametrize("policy", OverlapPolicy)
async def test_runs_are_exact_if_a_scheduler_is_killed_after_the_records(
    world: World, policy: OverlapPolicy
) -> None:
    """With a live execution, the overlap policy decides on the slot."""
    process = world.compose_process()
    job = await world.add_job(world.every(60), overlap_policy=policy)
    await world.queue(job, live_for=job.id)
    for _ in range(3):
        world.clock.advance(MINUTE)
        await kill_before_advance(process)
        await process.schedule()
    assert await read_runs(world, job) == await count_scheduled(world, job)


@pytest.mark.parametrize("policy", EXECUTING)
async def test_max_runs_is_not_exceeded_if_another_scheduler_recorded_the_slot(
    world: World, policy: OverlapPolicy
) -> None:
    one, two = world.compose_process(), world.compose_process()
    job = await world.add_job(world.every(60, max_runs=1), overlap_policy=policy)
    await world.queue(job, live_for=job.id)
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    executions = one.runtime.repositories.executions
    insert_many, firing = executions.insert_many, two.firing

    async def insert_after_the_other(records: Any) -> Any:
        if records and records[0].status is ExecutionStatus.QUEUED:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(two.runtime.repositories.jobs, "advance", do_nothing)
                await firing.fire(due, world.clock.now())
        return await insert_many(records)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executions, "insert_many", insert_after_the_other)
        await one.firing.fire(due, world.clock.now())
    for _ in range(3):
        world.clock.advance(MINUTE)
        await one.schedule()
        await two.schedule()
    assert await count_scheduled(world, job) == 1
    stored = await world.jobs.get(job.id, owner_id=None)
    assert (stored.schedules[0].runs, stored.next_run) == (1, None)


async def test_max_runs_is_not_exceeded_if_another_scheduler_records_the_slot_before_it_is_skipped(
    world: World,
) -> None:
    one, two = world.compose_process(), world.compose_process()
    job = await world.add_job(world.every(60, max_runs=1))
    live = await world.queue(job, live_for=job.id)
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    executions = one.runtime.repositories.executions
    insert_many = executions.insert_many

    async def skip_after_the_other(records: Any) -> Any:
        if records and records[0].status is ExecutionStatus.SKIPPED:
            await world.executions.cancel_queued(live.id, reason=Reason.CANCELLED_BY_USER)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(two.runtime.repositories.jobs, "advance", do_nothing)
                await two.firing.fire(due, world.clock.now())
        return await insert_many(records)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executions, "insert_many", skip_after_the_other)
        assert await one.firing.fire(due, world.clock.now()) == 1
    await two.work()
    world.clock.advance(MINUTE)
    await one.schedule()
    await two.schedule()
    assert await count_scheduled(world, job) == 1
    stored = await world.jobs.get(job.id, owner_id=None)
    assert (stored.schedules[0].runs, stored.next_run) == (1, None)


async def do_nothing(*_: object) -> int:
    return 0


async def test_a_slot_that_another_scheduler_skipped_does_not_count(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60, max_runs=1))
    [schedule] = job.schedules
    world.clock.advance(MINUTE)
    slot = world.clock.now()
    other = await world.queue(
        job, kind=ExecutionKind.SCHEDULED, schedule_id=schedule.id, status=ExecutionStatus.SKIPPED
    )
    assert other.scheduled_for == slot
    await process.schedule()
    assert await read_runs(world, job) == 0
    world.clock.advance(MINUTE)
    await process.schedule()
    assert await count_scheduled(world, job) == 1


async def test_records_after_a_slot_without_a_record_are_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    await process.schedule()
    job = await world.add_job(world.every(1, max_runs=3), overlap_policy=OverlapPolicy.ALLOW_ALL)
    world.clock.advance(2 * SECOND)
    executions = process.runtime.repositories.executions
    insert_many = executions.insert_many

    async def lose_the_first(records: Any) -> Any:
        if not records:
            return []
        return [InsertResult.ALREADY_RECORDED, *await insert_many(records[1:])]

    with monkeypatch.context() as patch:
        patch.setattr(executions, "insert_many", lose_the_first)
        await process.scheduler.tick()
    assert (await count_scheduled(world, job), await read_runs(world, job)) == (1, 0)
    for _ in range(3):
        await process.schedule()
        world.clock.advance(SECOND)
    assert await count_scheduled(world, job) == await read_runs(world, job) == 3


async def test_next_run_does_not_pass_a_slot_without_a_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason is: the next firing decides on the slot again."""
    process = world.compose_process()
    job = await world.add_job(world.every(60), overlap_policy=OverlapPolicy.BUFFER_ONE)
    await world.queue(job, live_for=job.id)
    world.clock.advance(MINUTE)

    async def lose(*_: object) -> dict[str, Any]:
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(process.runtime.admission, "apply_policies", lose)
        await process.scheduler.tick()
    stored = await world.jobs.get(job.id, owner_id=None)
    assert (stored.next_run, stored.schedules[0].runs) == (world.clock.now(), 0)
    await process.schedule()
    assert await count_scheduled(world, job) == 1


async def test_next_run_is_the_earliest_of_several_slots_without_a_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    job = await world.add_job(
        world.every(60),
        overlap_policy=OverlapPolicy.BUFFER_ALL,
        catch_up=CatchUpPolicy(policy=CatchUpMode.ALL),
    )
    await world.queue(job, live_for=job.id)
    await process.schedule()
    world.clock.advance(3 * MINUTE)

    async def lose(*_: object) -> dict[str, Any]:
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(process.runtime.admission, "apply_policies", lose)
        await process.scheduler.tick()
    assert (await world.jobs.get(job.id, owner_id=None)).next_run == job.next_run
    await process.schedule()
    assert await count_scheduled(world, job) == 3
