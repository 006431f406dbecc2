"""The janitor deletes old executions, but keeps the last success and failure of each job that
exists."""

from datetime import datetime, timedelta

import pytest

from app.engine import janitor as module
from app.engine.janitor import Janitor, Trimmer
from app.models.execution import Execution, ExecutionKind, ExecutionStatus
from app.models.job import Job
from app.repositories import history
from app.repositories.history import HistoryRepository
from tests.support.crash import Killed
from tests.support.engine import World

DAY = timedelta(days=1)


def open_janitor(world: World, *, days: int = 30) -> Janitor:
    history = HistoryRepository(world.database)
    return Janitor(history=history, retention=timedelta(days=days))


async def add_finished(world: World, job: Job, age: timedelta, status: str) -> Execution:
    at = world.clock.now() - age
    execution = Execution(
        id=world.new_id(),
        job_id=job.id,
        owner_id=job.owner_id,
        kind=ExecutionKind.MANUAL,
        scheduled_for=at,
        run_at=at,
        status=ExecutionStatus(status),
        created_at=at,
        finished_at=at,
    )
    await world.executions.insert(execution)
    return execution


async def clean(janitor: Janitor | Trimmer) -> None:
    while await janitor.tick() < timedelta(seconds=1):
        pass


async def test_executions_older_than_the_retention_are_deleted(world: World) -> None:
    job = await world.add_job()
    for age in (60, 50, 40):
        await add_finished(world, job, age * DAY, "skipped")
    young = await add_finished(world, job, 29 * DAY, "skipped")

    await clean(open_janitor(world))

    assert await world.list_executions(job) == [young]


async def test_the_last_success_and_the_last_failure_are_kept(world: World) -> None:
    job, other = await world.add_job(), await world.add_job()
    await add_finished(world, job, 90 * DAY, "succeeded")
    last_failure = await add_finished(world, job, 80 * DAY, "timed_out")
    last_success = await add_finished(world, job, 70 * DAY, "succeeded")
    await add_finished(world, other, 60 * DAY, "failed")
    recent = await add_finished(world, other, DAY, "failed")

    await clean(open_janitor(world))

    assert await world.list_executions(job) == [last_failure, last_success]
    assert await world.list_executions(other) == [recent]


async def test_the_last_results_of_a_deleted_job_are_deleted_by_age(world: World) -> None:
    deleted, other = await world.add_job(), await world.add_job()
    kept = {}
    for job in (deleted, other):
        succeeded = await add_finished(world, job, 41 * DAY, "succeeded")
        failed = await add_finished(world, job, 40 * DAY, "failed")
        kept[job.id] = [succeeded, failed, await add_finished(world, job, 20 * DAY, "skipped")]
    assert await world.jobs.delete(deleted)

    await clean(open_janitor(world))

    assert await world.list_executions(deleted) == kept[deleted.id][-1:]
    assert await world.list_executions(other) == kept[other.id]


async def test_a_page_of_many_jobs_takes_one_look_at_the_jobs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = [await world.add_job() for _ in range(20)]
    for job in deleted:
        await add_finished(world, job, 40 * DAY, "succeeded")
        assert await world.jobs.delete(job)
    looks: list[int] = []
    list_next_runs = HistoryRepository.list_next_runs

    async def count(self: HistoryRepository, job_ids: set[str]) -> dict[str, datetime | None]:
        looks.append(len(job_ids))
        return await list_next_runs(self, job_ids)

    async def fail(*_: object) -> bool:
        raise AssertionError("the history of a deleted job has no last result")

    monkeypatch.setattr(HistoryRepository, "list_next_runs", count)
    monkeypatch.setattr(HistoryRepository, "has_newer", fail)
    await clean(open_janitor(world))
    assert looks == [20]
    for job in deleted:
        assert await world.list_executions(job) == []


async def test_an_unfinished_execution_is_never_deleted(world: World) -> None:
    job = await world.add_job()
    queued = await world.queue(job)
    world.clock.advance(365 * DAY)
    await clean(open_janitor(world))
    assert await world.list_executions(job) == [queued]


@pytest.mark.parametrize("trim", [False, True])
async def test_the_record_of_a_slot_that_next_run_has_not_passed_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, trim: bool
) -> None:
    """The scheduler was killed before it advanced `next_run`, and no other one is running."""
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(timedelta(seconds=60))
    with monkeypatch.context() as patch:
        patch.setattr(process.runtime.repositories.jobs, "advance", _kill)
        with pytest.raises(Killed):
            await process.scheduler.tick()
    await process.work()
    (executed,) = await world.list_executions(job)
    world.clock.advance(timedelta(seconds=1))
    await add_finished(world, job, timedelta(0), "succeeded")  # it is not the last success
    world.clock.advance(60 * DAY)
    cleaner = Trimmer(history=HistoryRepository(world.database), keep=1)
    await clean(cleaner if trim else open_janitor(world))

    assert executed in await world.list_executions(job)
    await process.schedule()
    slots = [e.scheduled_for for e in await world.list_executions(job) if e.schedule_id]
    assert len(slots) == len(set(slots))
    await clean(cleaner if trim else open_janitor(world))
    assert executed not in await world.list_executions(job)


async def _kill(*_: object) -> None:
    raise Killed


async def test_nothing_younger_than_a_day_is_deleted(world: World) -> None:
    job = await world.add_job()
    young = await add_finished(world, job, DAY - timedelta(minutes=1), "skipped")
    await add_finished(world, job, DAY + timedelta(minutes=1), "skipped")
    await clean(open_janitor(world, days=0))
    assert await world.list_executions(job) == [young]


async def test_the_janitor_continues_after_pages_without_deletable_executions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    jobs = [await world.add_job() for _ in range(5)]
    for job in jobs:
        await add_finished(world, job, 50 * DAY, "skipped")
        await add_finished(world, job, 40 * DAY, "succeeded")
    janitor = open_janitor(world)

    for _ in range(2):  # a second pass deletes nothing more
        await clean(janitor)
        assert [len(await world.list_executions(job)) for job in jobs] == [1] * 5


async def test_the_last_success_is_kept_when_many_later_executions_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The janitor reads only some of the newest executions, and the success is not among them."""
    monkeypatch.setattr(history, "_MAX_EXAMINED", 3)
    job = await world.add_job()
    last = await add_finished(world, job, 90 * DAY, "succeeded")
    beyond = await add_finished(world, job, 20 * DAY, "succeeded")
    newest = [await add_finished(world, job, (10 - n) * DAY, "failed") for n in range(5)]
    await clean(open_janitor(world))
    assert await world.list_executions(job) == [last, beyond, *newest]


def open_trimmer(world: World, *, keep: int) -> Trimmer:
    return Trimmer(history=HistoryRepository(world.database), keep=keep)


async def test_the_oldest_executions_above_the_limit_of_a_job_are_deleted(world: World) -> None:
    jobs = [await world.add_job() for _ in range(3)]
    kept = {}
    for job, count in zip(jobs, (5, 3, 2), strict=True):
        history = [await add_finished(world, job, (9 - n) * DAY, "skipped") for n in range(count)]
        kept[job.id] = history[-3:]
    await clean(open_trimmer(world, keep=3))
    for job in jobs:
        assert await world.list_executions(job) == kept[job.id]


async def test_the_trimmer_keeps_last_results_and_live_and_young_executions(
    world: World,
) -> None:
    job = await world.add_job()
    live = await world.queue(job)
    world.clock.advance(10 * DAY)
    await add_finished(world, job, 9 * DAY, "succeeded")
    success = await add_finished(world, job, 8 * DAY, "succeeded")
    failure = await add_finished(world, job, 7 * DAY, "timed_out")
    await add_finished(world, job, 6 * DAY, "skipped")
    young = [
        await add_finished(world, job, DAY - n * timedelta(minutes=1), "skipped") for n in (2, 1)
    ]
    for _ in range(2):
        await clean(open_trimmer(world, keep=1))
        assert await world.list_executions(job) == [live, success, failure, *reversed(young)]


async def test_the_trimmer_continues_until_all_pages_are_trimmed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    monkeypatch.setattr(module, "_JOBS", 2)
    jobs = [await world.add_job() for _ in range(5)]
    for job in jobs:
        for n in range(8):
            await add_finished(world, job, (20 - n) * DAY, "succeeded" if n == 0 else "skipped")
    trimmer = open_trimmer(world, keep=2)
    for _ in range(2):
        await clean(trimmer)
        assert [len(await world.list_executions(job)) for job in jobs] == [3] * 5


async def test_the_trimmer_continues_after_a_page_of_which_nothing_may_be_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    monkeypatch.setattr(module, "_JOBS", 1)
    jobs = [await world.add_job() for _ in range(2)]
    for job in jobs:
        for age, status in ((9, "succeeded"), (8, "failed"), (7, "skipped"), (6, "skipped")):
            await add_finished(world, job, age * DAY, status)
    trimmer = open_trimmer(world, keep=2)
    for _ in range(2):
        await trimmer.tick()
    assert trimmer._reached == max(job.id for job in jobs)
