"""The scheduler records each due slot once, and then advances `next_run`."""

from datetime import timedelta

import pytest

from app.errors import UnavailableError
from app.models.execution import ExecutionKind, ExecutionStatus
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy
from app.models.schedule import CronSchedule, OneTimeSchedule
from app.repositories.executions import InsertResult
from tests.support.engine import World, list_slots

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


async def test_a_due_slot_is_recorded_and_next_run_advances(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)

    await process.schedule()

    (execution,) = await world.list_executions(job)
    assert execution.kind is ExecutionKind.SCHEDULED
    assert execution.status is ExecutionStatus.QUEUED
    assert execution.scheduled_for == execution.run_at == world.clock.now()
    assert execution.live_for == job.id
    stored = await world.jobs.get(job.id, owner_id=None)
    assert stored.next_run == stored.schedules[0].next_run == world.clock.now() + MINUTE
    assert stored.revision == job.revision


async def test_a_slot_is_not_recorded_before_its_time(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE - timedelta(milliseconds=1))

    assert await process.scheduler.tick() <= timedelta(milliseconds=2)
    assert await world.list_executions(job) == []


async def test_the_scheduler_waits_until_the_next_slot(world: World) -> None:
    process = world.compose_process()
    await world.add_job(world.every(60))

    assert await process.scheduler.tick() == SECOND  # the poll interval
    world.clock.advance(MINUTE - timedelta(milliseconds=300))
    assert await process.scheduler.tick() == timedelta(milliseconds=301)


async def test_a_next_run_before_the_first_key_of_the_poll_is_found_within_five_seconds(
    world: World,
) -> None:
    process = world.compose_process()
    await process.scheduler.tick()
    behind = world.clock.now() - 2 * SECOND
    job = await world.add_job(OneTimeSchedule(id=world.new_id(), run_at=behind, next_run=behind))
    world.clock.advance(timedelta(seconds=4.9))
    await process.schedule()
    assert await world.list_executions(job) == []
    world.clock.advance(timedelta(seconds=0.1))
    await process.schedule()
    assert list_slots(await world.list_executions(job)) == [behind]


async def test_a_new_job_with_an_earlier_slot_than_all_others_starts_on_time(world: World) -> None:
    process = world.compose_process()
    await world.add_job(world.every(3_600))
    await process.scheduler.tick()
    job = await world.add_job(world.every(1))
    world.clock.advance(SECOND / 2)
    # After the wake-up by the creation:
    assert await process.scheduler.tick() == SECOND / 2 + timedelta(milliseconds=1)
    world.clock.advance(SECOND / 2)
    await process.scheduler.tick()
    assert list_slots(await world.list_executions(job)) == [world.clock.now()]


async def test_after_an_error_a_poll_reads_the_whole_index(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    await process.scheduler.tick()
    behind = world.clock.now() - 2 * SECOND
    job = await world.add_job(OneTimeSchedule(id=world.new_id(), run_at=behind, next_run=behind))

    async def fail(*_: object) -> None:
        raise UnavailableError("the database does not respond")

    with monkeypatch.context() as patch:
        patch.setattr(process.runtime.repositories.jobs, "peek", fail)
        with pytest.raises(UnavailableError):
            await process.scheduler.tick()
    await process.schedule()
    assert list_slots(await world.list_executions(job)) == [behind]


async def test_a_one_time_schedule_fires_once_and_then_has_no_next_run(world: World) -> None:
    process = world.compose_process()
    at = world.clock.now() + MINUTE
    job = await world.add_job(OneTimeSchedule(id=world.new_id(), run_at=at))
    world.clock.advance(MINUTE)

    await process.schedule()
    world.clock.advance(timedelta(days=1))
    await process.schedule()

    assert list_slots(await world.list_executions(job)) == [at]
    assert (await world.jobs.get(job.id, owner_id=None)).next_run is None


async def test_several_schedules_of_a_job_each_keep_their_own_next_run(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(
        world.every(60), world.every(90), overlap_policy=OverlapPolicy.ALLOW_ALL
    )
    start = world.clock.now()
    for _ in range(18):
        world.clock.advance(timedelta(seconds=10))
        await process.schedule()

    recorded = list_slots(await world.list_executions(job))
    assert recorded == [start + timedelta(seconds=s) for s in (60, 90, 120, 180, 180)]


async def test_a_crash_between_the_record_and_next_run_records_no_slot_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)

    async def crash(moves: object) -> int:
        raise UnavailableError("the process is gone")

    with monkeypatch.context() as patched:
        patched.setattr(process.runtime.repositories.jobs, "advance", crash)
        with pytest.raises(UnavailableError):
            await process.scheduler.tick()
    await process.schedule()

    assert len(await world.list_executions(job)) == 1
    stored = await world.jobs.get(job.id, owner_id=None)
    assert stored.next_run == world.clock.now() + MINUTE


async def test_two_schedulers_that_read_the_same_job_record_a_slot_once(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=10)

    assert await one.firing.fire(due, world.clock.now()) == 1
    assert await two.firing.fire(due, world.clock.now()) == 0

    assert len(await world.list_executions(job)) == 1


async def test_a_batch_that_is_too_old_is_dropped(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    read_at = world.clock.monotonic()
    world.clock.advance(timedelta(seconds=31))

    assert await process.firing.fire(due, world.clock.now(), read_at=read_at) == 0
    assert await world.list_executions(job) == []


async def test_an_advance_of_next_run_does_not_overwrite_an_edit(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    edited = job.model_copy(update={"name": "edited", "revision": 2})
    assert await world.jobs.replace(edited, expected=job)

    assert await process.firing.fire(due, world.clock.now()) == 0

    assert await world.jobs.get(job.id, owner_id=None) == edited


async def test_under_skip_a_slot_is_skipped_while_another_execution_is_live(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    for _ in range(2):
        world.clock.advance(MINUTE)
        await process.schedule()

    first, second = await world.list_executions(job)
    assert first.status is ExecutionStatus.QUEUED
    assert (second.status, second.reason) == (ExecutionStatus.SKIPPED, "overlap")
    assert second.finished_at == world.clock.now()
    assert second.live_for is None


async def test_a_skipped_slot_recorded_twice_stays_one_record(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    await one.schedule()
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    await one.firing.fire(due, world.clock.now())
    await two.firing.fire(due, world.clock.now())

    assert [e.status for e in await world.list_executions(job)] == ["queued", "skipped"]


async def test_a_second_record_of_a_slot_is_not_an_overlap(world: World) -> None:
    """The insert violates both unique indexes, and the server names only one of them."""
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    await process.schedule()
    (execution,) = await world.list_executions(job)

    again = execution.model_copy(update={"id": world.new_id()})
    assert await world.executions.insert(again) is InsertResult.ALREADY_RECORDED


async def test_under_allow_all_every_slot_is_queued(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60), overlap_policy=OverlapPolicy.ALLOW_ALL)
    for _ in range(3):
        world.clock.advance(MINUTE)
        await process.schedule()

    assert [e.status for e in await world.list_executions(job)] == ["queued"] * 3


async def test_catch_up_one_executes_the_latest_late_slot_and_counts_the_others(
    world: World,
) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    start = world.clock.now()
    world.clock.advance(10 * MINUTE + 30 * SECOND)

    await process.schedule()

    missed, queued = await world.list_executions(job)
    assert missed.status is ExecutionStatus.MISSED
    assert (missed.scheduled_for, missed.missed_until) == (start + MINUTE, start + 9 * MINUTE)
    assert missed.missed_count == 9
    assert (queued.scheduled_for, queued.status) == (start + 10 * MINUTE, ExecutionStatus.QUEUED)
    assert queued.run_at == world.clock.now()


async def test_a_long_outage_of_a_fast_schedule_makes_one_missed_record(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(1), catch_up=CatchUpPolicy(policy=CatchUpMode.NONE))
    world.clock.advance(timedelta(days=365))

    await process.schedule()

    missed, *on_time = await world.list_executions(job)
    assert missed.missed_count == 365 * 86_400 - 11
    assert len(on_time) == 11  # slots of the last ten seconds are queued or skipped
    assert on_time[0].scheduled_for - missed.missed_until == SECOND  # type: ignore[operator]


async def test_catch_up_all_starts_ten_late_slots_per_second(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(
        world.every(60),
        catch_up=CatchUpPolicy(policy=CatchUpMode.ALL, window_seconds=300),
        overlap_policy=OverlapPolicy.ALLOW_ALL,
    )
    start = world.clock.now()
    world.clock.advance(10 * MINUTE + 30 * SECOND)

    await process.schedule()

    missed, *queued = await world.list_executions(job)
    assert missed.missed_count == 5
    assert list_slots(queued) == [start + n * MINUTE for n in range(6, 11)]
    spread = [e.run_at - world.clock.now() for e in queued]
    assert spread == [n * timedelta(milliseconds=100) for n in range(5)]


async def test_two_schedulers_at_different_instants_record_every_slot_once(
    world: World,
) -> None:
    """A missed record depends on the instant, so two schedulers may plan different records."""
    one, two = world.compose_process(), world.compose_process()
    job = await world.add_job(world.every(1), overlap_policy=OverlapPolicy.ALLOW_ALL)
    start = world.clock.now()
    world.clock.advance(timedelta(seconds=60))
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    earlier = world.clock.now()
    world.clock.advance(timedelta(seconds=20))

    await one.firing.fire(due, earlier)
    await two.firing.fire(due, world.clock.now())
    await two.schedule()

    covered = set()
    for execution in await world.list_executions(job):
        count = execution.missed_count or 1
        covered |= {execution.scheduled_for + n * SECOND for n in range(count)}
    assert covered == {start + n * SECOND for n in range(1, 81)}
    assert sum(e.missed_count or 1 for e in await world.list_executions(job)) == 80


async def test_max_runs_does_not_count_skipped_slots(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60, max_runs=2))
    world.clock.advance(MINUTE)
    await process.schedule()
    world.clock.advance(MINUTE)
    await process.schedule()  # skipped: the first is still queued
    await process.work()
    for _ in range(3):
        world.clock.advance(MINUTE)
        await process.schedule()
        await process.work()

    statuses = [e.status for e in await world.list_executions(job)]
    assert statuses == ["succeeded", "skipped", "succeeded"]
    assert (await world.jobs.get(job.id, owner_id=None)).next_run is None


async def test_end_at_is_the_last_possible_slot(world: World) -> None:
    process = world.compose_process()
    end = world.clock.now() + 2 * MINUTE
    job = await world.add_job(world.every(60, end_at=end), overlap_policy=OverlapPolicy.ALLOW_ALL)
    for _ in range(5):
        world.clock.advance(MINUTE)
        await process.schedule()

    assert list_slots(await world.list_executions(job)) == [end - MINUTE, end]


async def test_jitter_delays_each_start_but_not_past_the_next_slot(world: World) -> None:
    one = world.compose_process()
    job = await world.add_job(
        world.every(60, jitter_seconds=600), overlap_policy=OverlapPolicy.ALLOW_ALL
    )
    for _ in range(5):
        world.clock.advance(MINUTE)
        await one.schedule()

    delays = [e.run_at - e.scheduled_for for e in await world.list_executions(job)]
    assert len(set(delays)) == 5
    assert all(timedelta(0) <= delay < MINUTE for delay in delays)


async def test_an_invalid_schedule_is_stopped_and_other_jobs_are_fired(world: World) -> None:
    process = world.compose_process()
    invalid = CronSchedule(
        id=world.new_id(),
        cron_expression="0 9 * * *",
        timezone="Mars/Olympus",
        next_run=world.clock.now(),
    )
    stopped = await world.add_job(invalid)
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)

    await process.schedule()

    assert len(await world.list_executions(job)) == 1
    assert (await world.jobs.get(stopped.id, owner_id=None)).next_run is None
