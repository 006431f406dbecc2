"""`last_run` and `last_status` of jobs: when they are stored, and by which statements."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from app.engine.reaper import Reaper
from app.errors import UnavailableError
from app.models.execution import AttemptOutcome, Execution, ExecutionStatus
from app.models.job import Job
from app.models.outcome import Failure, Outcome
from app.models.policy import RetryPolicy
from app.repositories.jobs import JobRepository, LastRun
from app.services.completion import Completion, Transition
from tests.integration.engine.attempts import block_targets
from tests.support.engine import LEASE, Process, World
from tests.support.statements import list_searched, record_writes

ONE_ATTEMPT = RetryPolicy(max_attempts=1)
FAILED = Outcome(AttemptOutcome.FAILED, Failure.STATUS, "status 500")


async def read_last_run(world: World, job: Job) -> tuple[datetime | None, str | None]:
    read = await world.jobs.get(job.id, owner_id=None)
    return read.last_run, read.last_status


def completion_of(process: Process) -> Completion:
    return process.worker._recorder._completion


def fail_writes(monkeypatch: pytest.MonkeyPatch, *, after: int = 0) -> list[list[LastRun]]:
    """Let each write of last runs fail, after this number. Return the batches of all calls."""
    note, batches = JobRepository.note_last_runs, list[list[LastRun]]()

    async def fail(self: JobRepository, last_runs: Any) -> None:
        batches.append(list(last_runs))
        if len(batches) > after:
            raise UnavailableError("outage")
        await note(self, last_runs)

    monkeypatch.setattr(JobRepository, "note_last_runs", fail)
    return batches


async def test_after_an_outage_the_worker_stores_the_last_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    job = await world.add_job(retry=ONE_ATTEMPT)
    queued = await world.queue(job)
    world.targets.outcome_of = lambda _: FAILED
    with monkeypatch.context() as patched:
        fail_writes(patched)
        await process.work()
        with pytest.raises(UnavailableError):
            await process.worker.watch()
    assert await read_last_run(world, job) == (None, None)
    await process.worker.watch()
    assert await read_last_run(world, job) == (queued.scheduled_for, "failed")


async def test_after_an_outage_the_reaper_stores_the_last_run_of_what_it_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = world.compose_process(), world.compose_process()
    job = await world.add_job(retry=ONE_ATTEMPT)
    queued = await world.queue(job)
    target = block_targets(world)
    await dead.worker.tick()
    await target.began.wait()
    world.clock.advance(LEASE)
    with monkeypatch.context() as patched:
        fail_writes(patched)
        with pytest.raises(UnavailableError):
            await alive.reaper.tick()
    assert (await world.read(queued)).status is ExecutionStatus.FAILED
    assert await read_last_run(world, job) == (None, None)
    reaper: Reaper = alive.reaper
    await reaper.tick()
    assert await read_last_run(world, job) == (queued.scheduled_for, "failed")
    target.may_end.set()
    await dead.finish_attempts()


async def test_an_older_slot_does_not_replace_the_last_run(world: World) -> None:
    job = await world.add_job()
    now = world.clock.now()
    for minutes, status in [(1, "failed"), (0, "succeeded"), (1, "timed_out")]:
        slot = now + timedelta(minutes=minutes)
        last = LastRun(job.id, job.owner_id, slot, ExecutionStatus(status))
        await world.jobs.note_last_runs([last])
    assert await read_last_run(world, job) == (now + timedelta(minutes=1), "timed_out")


async def test_of_two_results_of_a_slot_the_second_is_the_last_status(world: World) -> None:
    """The second one is that of a retry by a user."""
    completion = completion_of(world.compose_process())
    job = await world.add_job()
    execution = await world.queue(job)
    for status in (ExecutionStatus.FAILED, ExecutionStatus.SUCCEEDED):
        await completion.follow_up([Transition(execution, status)])
    await completion.write_last_runs()
    assert await read_last_run(world, job) == (execution.scheduled_for, "succeeded")


async def end_in_jobs(completion: Completion, execution: Execution, count: int) -> None:
    """Follow up one execution in each of `count` jobs."""
    ended = [execution.model_copy(update={"job_id": f"job-{n}"}) for n in range(count)]
    await completion.follow_up([Transition(one, ExecutionStatus.FAILED) for one in ended])


async def test_after_an_outage_only_the_last_runs_that_are_not_stored_are_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the next attempt is larger each time, and fails again."""
    completion = completion_of(world.compose_process())
    execution = await world.queue(await world.add_job())
    await end_in_jobs(completion, execution, 1_200)
    with monkeypatch.context() as patched:
        batches = fail_writes(patched, after=1)
        with pytest.raises(UnavailableError):
            await completion.write_last_runs()
    assert [len(batch) for batch in batches] == [500, 500]
    assert list(completion._last_runs) == [f"job-{n}" for n in range(500, 1_200)]

    batches = fail_writes(monkeypatch, after=2)
    await completion.write_last_runs()
    assert [len(batch) for batch in batches] == [500, 200]
    assert completion._last_runs == {}


async def test_10_000_last_runs_are_written_by_20_statements_that_search_short_lists(
    world: World,
) -> None:
    process = world.compose_process()
    execution = await world.queue(await world.add_job())
    jobs = process.runtime.repositories.jobs
    recorded = record_writes(jobs, "_jobs")
    completion = completion_of(process)
    await end_in_jobs(completion, execution, 10_000)
    await completion.write_last_runs()
    assert len(recorded.writes) == 20
    assert {tuple(list_searched(write)) for write in recorded.writes} == {(500,) * 3}


async def test_a_last_run_that_the_database_rejects_loses_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    completion = completion_of(world.compose_process())
    execution = await world.queue(await world.add_job())
    await end_in_jobs(completion, execution, 1_200)
    stored: list[str] = []

    async def reject_one(self: JobRepository, last_runs: Any) -> None:
        ids = [last.job_id for last in last_runs]
        if "job-123" in ids:
            raise ValueError("rejected")
        stored.extend(ids)

    monkeypatch.setattr(JobRepository, "note_last_runs", reject_one)
    await completion.write_last_runs()
    assert stored == [f"job-{n}" for n in range(1_200) if n != 123]
    assert completion._last_runs == {}
