"""The scheduler records each due slot once, and then advances `next_run`."""

from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from app.errors import UnavailableError
from app.models.execution import ExecutionKind, ExecutionStatus
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy
from app.models.schedule import CronSchedule, OneTimeSchedule
from app.policies import catch_up
from app.repositories.executions import InsertResult
from app.services import due_schedules
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

    async def fail(*_: object, **__: object) -> None:
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


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"timezone": zone}
            for zone in ("America", "/etc/passwd", "", "a\0b", "../x", "x" * 5_000)
        ),
        {"interval_seconds": 60, "runs": 2**63 - 1},
        {"interval_seconds": 60, "runs": -5},
        {"interval_seconds": 60, "max_runs": -3},
        {"interval_seconds": 60, "max_runs": 2**63 - 1},
        {"cron_expression": ""},
        {"cron_expression": "0 0 30 2 *"},
    ],
    ids=lambda changes: " ".join(f"{k}={v!r:.20}" for k, v in changes.items()),
)
@pytest.mark.parametrize("late", [False, True])
async def test_a_malformed_schedule_does_not_stop_the_firing_of_other_jobs(
    world: World, changes: dict[str, Any], late: bool
) -> None:
    process = world.compose_process()
    await process.schedule()
    cron = CronSchedule(id=world.new_id(), cron_expression="* * * * *")
    schedule = world.every(60) if "interval_seconds" in changes else cron
    malformed, job = await world.add_job(schedule), await world.add_job(world.every(60))
    stored = {f"schedules.0.{name}": value for name, value in changes.items()}
    await world.database.collection("jobs").update_one({"_id": malformed.id}, {"$set": stored})
    world.clock.advance(5 * MINUTE if late else MINUTE)
    await process.schedule()

    assert await world.list_executions(job)
    due = {"next_run": {"$lte": world.clock.now()}}
    assert await world.database.collection("jobs").find_one(due) is None


@pytest.mark.parametrize("step", ["plan", "build"])
async def test_an_error_of_one_schedule_stops_only_this_schedule(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    process = world.compose_process()
    await process.schedule()
    bad, good = world.every(60), world.every(60)
    job = await world.add_job(bad, good, overlap_policy=OverlapPolicy.ALLOW_ALL)
    owner, name = {
        "plan": (catch_up, "plan"),
        "build": (due_schedules, "_delay"),
    }[step]
    call = getattr(owner, name)

    def fail(*args: Any, **options: Any) -> Any:
        if bad.id in {getattr(argument, "id", None) for argument in args}:
            raise OverflowError("the number is too large")
        return call(*args, **options)

    monkeypatch.setattr(owner, name, fail)
    world.clock.advance(MINUTE)
    await process.schedule()

    [execution] = await world.list_executions(job)
    assert execution.schedule_id == good.id
    stored = (await world.jobs.get(job.id, owner_id=None)).schedules
    assert [one.next_run for one in stored] == [None, world.clock.now() + MINUTE]


async def test_a_job_that_moves_in_the_index_during_the_read_is_read_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process advances it after the first batch of the cursor."""
    first = await world.add_job(world.every(1))
    for _ in range(101):
        await world.add_job(world.every(3))
    world.clock.advance(9 * SECOND)
    jobs, find = world.database.collection("jobs"), world.jobs._jobs.find
    assert first.next_run is not None
    moved = first.next_run + 4 * SECOND
    advance = {"$set": {"next_run": moved, "schedules.0.next_run": moved}}
    cursors = []

    def find_slowly(*args: Any, **options: Any) -> Any:
        cursors.append(SlowCursor(find(*args, **options)))
        return cursors[-1]

    class SlowCursor:
        def __init__(self, cursor: Any) -> None:
            self.cursor = cursor

        def __getattr__(self, name: str) -> Any:
            def call(*args: Any) -> SlowCursor:
                self.cursor = getattr(self.cursor, name)(*args)
                return self

            return call

        async def to_list(self, _: object) -> list[Any]:
            found = []
            async for document in self.cursor:
                found.append(document)
                if len(found) == 101:
                    await jobs.update_one({"_id": first.id}, advance)
            return found

    reading = SimpleNamespace(find=find_slowly)
    with monkeypatch.context() as patch:
        patch.setattr(world.jobs, "_jobs", reading)
        due = await world.jobs.list_due(world.clock.now(), limit=500)
    assert len(cursors) == 1
    assert [job.next_run for job in due if job.id == first.id] == [first.next_run]
    assert len(due) == 102


async def test_a_job_that_the_read_returns_twice_is_fired_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    read = world.jobs._reader.read

    async def read_twice(documents: Sequence[Any]) -> Any:
        return await read([*documents, *documents])

    monkeypatch.setattr(world.jobs._reader, "read", read_twice)
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    assert [one.id for one in due] == [job.id]


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
