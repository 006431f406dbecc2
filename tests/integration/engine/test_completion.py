"""What follows when executions end: last run fields, promotion, wake-up."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.errors import UnavailableError
from app.models.execution import AttemptOutcome, Execution, ExecutionStatus
from app.models.job import Job
from app.models.outcome import Failure, Outcome
from app.models.policy import OverlapPolicy, RetryPolicy
from app.models.user import Actor, Role
from app.repositories.jobs import JobRepository
from app.repositories.lease_fence import Lease
from app.repositories.promotions import PromotionRepository
from app.repositories.settlements import Settlement
from app.services.completion import Completion, Transition
from tests.integration.engine.attempts import renew_late
from tests.support.engine import LEASE, Process, World, claim_due

ADMIN = Actor(user_id="", username="", role=Role.ADMIN)
FAILED = Outcome(AttemptOutcome.FAILED, Failure.STATUS, "status 500")
ONE_ATTEMPT = RetryPolicy(max_attempts=1)


async def never() -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


def completion_of(process: Process) -> Completion:
    return process.worker._recorder._completion


async def read_last_run(world: World, job: Job) -> tuple[object, object]:
    read = await world.jobs.get(job.id, owner_id=None)
    return read.last_run, read.last_status


async def test_the_cancel_of_a_queued_execution_is_the_last_run(world: World) -> None:
    job = await world.add_job()
    queued = await world.queue(job)
    await world.compose_process().runtime.executions.cancel(ADMIN, queued.id)
    assert await read_last_run(world, job) == (queued.scheduled_for, ExecutionStatus.CANCELLED)


async def test_an_outage_after_a_cancel_does_not_fail_the_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    job = await world.add_job()
    queued = await world.queue(job, live_for=job.id)

    async def fail(*_: object) -> None:
        raise UnavailableError("outage")

    monkeypatch.setattr(JobRepository, "note_last_runs", fail)
    monkeypatch.setattr(PromotionRepository, "promote", fail)
    cancelled = await process.runtime.executions.cancel(ADMIN, queued.id)
    assert cancelled.status is ExecutionStatus.CANCELLED


async def test_a_cancel_does_not_write_the_last_runs_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    job, other = await world.add_job(), await world.add_job()
    queued, ended = await world.queue(job), await world.queue(other)
    await completion_of(process).follow_up([Transition(ended, ExecutionStatus.FAILED)])
    await process.runtime.executions.cancel(ADMIN, queued.id)
    assert await read_last_run(world, other) == (None, None)
    await process.worker.watch()
    assert await read_last_run(world, other) == (ended.scheduled_for, ExecutionStatus.FAILED)


async def test_an_execution_that_runs_again_is_not_the_last_run_and_wakes_the_worker(
    world: World,
) -> None:
    process = world.compose_process()
    job = await world.add_job(retry=RetryPolicy(max_attempts=2))
    await world.queue(job)
    world.targets.outcome_of = lambda _: FAILED
    await process.worker.tick()
    process.wake.executions.clear()
    await process.finish_attempts()
    assert await read_last_run(world, job) == (None, None)
    assert process.wake.executions.is_set()


async def test_the_last_attempt_that_the_reaper_ends_is_the_last_run(world: World) -> None:
    dead, alive = world.compose_process(), world.compose_process()
    job = await world.add_job(retry=ONE_ATTEMPT)
    queued = await world.queue(job)
    world.targets.outcome_of = lambda _: never()
    await dead.worker.tick()
    world.clock.advance(LEASE)
    await alive.reaper.tick()
    assert await read_last_run(world, job) == (queued.scheduled_for, ExecutionStatus.FAILED)
    await dead.worker.drain(timedelta(0))


async def test_a_lost_lease_is_followed_by_nothing(world: World) -> None:
    """Neither the recorder nor the reaper follows up what another process has settled."""
    process, other = world.compose_process(), world.compose_process()
    job = await world.add_job()
    await world.queue(job)
    (claimed,) = await claim_due(process.leases, limit=1)
    lease = Lease(claimed.id, claimed.lease_token)
    world.clock.advance(LEASE)
    expired = (await other.leases.list_expired(limit=10)).executions
    found = await world.jobs.list_by_ids([job.id])
    await renew_late(world, claimed)
    assert await other.reaper._settle(expired, found) == 0
    world.clock.advance(LEASE)
    success = Settlement(lease, ExecutionStatus.SUCCEEDED)
    await process.reaper.tick()
    assert await process.worker._recorder.settle(claimed, success) is False
    await process.worker.watch()
    assert await read_last_run(world, job) == (None, None)


class Promotions:
    """Counts the promotions that are tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.job_ids: list[str] = []
        promote_all = PromotionRepository._promote_all

        async def count(
            repository: PromotionRepository, first: dict[str, str]
        ) -> tuple[set[str], bool]:
            self.job_ids += first
            return await promote_all(repository, first)

        monkeypatch.setattr(PromotionRepository, "_promote_all", count)


async def test_an_execution_that_runs_again_keeps_the_waiting_one_without_a_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the takeover of many leases would try one promotion each, in vain."""
    dead, alive = world.compose_process(), world.compose_process()
    job = await world.add_job(overlap_policy=OverlapPolicy.BUFFER_ONE)
    await world.queue(job, live_for=job.id)
    waiting = await world.queue(job, waiting=True, place=0)
    await claim_due(dead.leases, limit=1)
    promotions = Promotions(monkeypatch)
    world.clock.advance(LEASE)
    await alive.reaper.tick()
    assert promotions.job_ids == []
    assert (await world.read(waiting)).waiting


async def test_a_requested_cancel_of_an_execution_that_would_run_again_promotes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = world.compose_process(), world.compose_process()
    job = await world.add_job(overlap_policy=OverlapPolicy.BUFFER_ONE)
    live = await world.queue(job, live_for=job.id)
    waiting = await world.queue(job, waiting=True, place=0)
    await claim_due(dead.leases, limit=1)
    await alive.runtime.executions.cancel(ADMIN, live.id)
    world.clock.advance(LEASE)
    await alive.reaper.tick()
    assert (await world.read(live)).status is ExecutionStatus.CANCELLED
    assert (await world.read(waiting)).live_for == job.id


def ended_at(world: World, execution: Execution, minutes: int) -> Execution:
    slot = world.clock.now() + timedelta(minutes=minutes)
    return execution.model_copy(update={"scheduled_for": slot})


async def test_after_a_failed_write_the_newest_slot_is_still_the_last_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    completion = completion_of(process)
    job = await world.add_job()
    execution = await world.queue(job)
    older, newer = ended_at(world, execution, 1), ended_at(world, execution, 2)
    note = JobRepository.note_last_runs

    async def end_another_and_fail(repository: JobRepository, last_runs: Any) -> None:
        await completion.follow_up([Transition(newer, ExecutionStatus.SUCCEEDED)])
        raise UnavailableError("outage")

    await completion.follow_up([Transition(older, ExecutionStatus.FAILED)])
    monkeypatch.setattr(JobRepository, "note_last_runs", end_another_and_fail)
    with pytest.raises(UnavailableError):
        await completion.write_last_runs()
    monkeypatch.setattr(JobRepository, "note_last_runs", note)
    await completion.write_last_runs()
    assert await read_last_run(world, job) == (newer.scheduled_for, ExecutionStatus.SUCCEEDED)


async def test_last_runs_are_kept_once_per_job_and_written_in_bounded_statements(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    completion = completion_of(world.compose_process())
    execution = await world.queue(await world.add_job())
    for n in range(1_201):
        one = execution.model_copy(update={"job_id": f"job-{n}"})
        await completion.follow_up([Transition(one, ExecutionStatus.FAILED)] * 3)
    assert len(completion._last_runs) == 1_201
    sizes: list[int] = []

    async def count(self: JobRepository, batch: Any) -> None:
        sizes.append(len(batch))

    monkeypatch.setattr(JobRepository, "note_last_runs", count)
    await completion.write_last_runs()
    assert sizes == [500, 500, 201]
