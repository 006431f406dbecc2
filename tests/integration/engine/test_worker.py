"""Claims, deliveries and the stop of a worker."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from app.engine.executor import RunningAttempt, StopReason
from app.engine.loop import AT_ONCE
from app.models.execution import AttemptOutcome, ExecutionStatus, TargetResponse
from app.models.outcome import Failure, Outcome
from app.models.policy import OverlapPolicy, RetryPolicy
from app.repositories import executions
from app.repositories.leases import AttemptStart
from tests.integration.engine.attempts import block_targets, make_lease, make_success
from tests.support.engine import LEASE, SUCCEEDED, World, claim_due
from tests.support.waiting import run_other_tasks

MINUTE = timedelta(minutes=1)


async def test_a_queued_execution_is_delivered_and_recorded(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(parameters={"a": 1})
    response = TargetResponse(status=200, headers={"content-type": "text/plain"}, body="ok")
    world.targets.outcome_of = lambda _: Outcome(AttemptOutcome.SUCCEEDED, response=response)
    queued = await world.queue(job)

    await process.work()

    (delivery,) = world.targets.deliveries
    assert delivery.execution_id == queued.id
    assert delivery.parameters == {"a": 1}
    assert delivery.attempt == 1
    done = await world.read(queued)
    assert done.status is ExecutionStatus.SUCCEEDED
    assert done.finished_at == world.clock.now()
    assert done.lease_owner is None
    assert done.lease_until is None
    (attempt,) = done.attempts
    assert (attempt.number, attempt.job_revision) == (1, job.revision)
    assert attempt.outcome is AttemptOutcome.SUCCEEDED
    assert attempt.response == response
    assert attempt.started_at == attempt.finished_at == world.clock.now()


async def test_the_last_run_fields_are_those_of_the_newest_slot(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job()
    newer = await world.queue(job)
    await process.work()
    await world.queue(job, scheduled_for=newer.scheduled_for - MINUTE)
    world.targets.outcome_of = lambda _: Outcome(AttemptOutcome.FAILED, Failure.REFUSED)
    await process.work()
    await process.worker.watch()

    stored = await world.jobs.get(job.id, owner_id=None)
    assert (stored.last_run, stored.last_status) == (newer.scheduled_for, "succeeded")


async def test_a_final_execution_is_no_longer_live(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    for _ in range(3):
        world.clock.advance(MINUTE)
        await process.schedule()
        await process.work()

    assert [e.status for e in await world.list_executions(job)] == ["succeeded"] * 3


async def test_values_are_never_evaluated_as_expressions(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job()
    queued = await world.queue(job)
    body = TargetResponse(status=500, headers={"$x": "$job_id", "a.b": "$$NOW"}, body="$owner_id")
    world.targets.outcome_of = lambda _: Outcome(
        AttemptOutcome.FAILED, Failure.REFUSED, "$job_id", body
    )

    await process.work()

    (attempt,) = (await world.read(queued)).attempts
    assert attempt.error == "$job_id"
    assert attempt.response == body


async def test_several_workers_never_run_the_same_execution(world: World) -> None:
    workers = [world.compose_process() for _ in range(4)]
    job = await world.add_job()
    queued = [await world.queue(job) for _ in range(60)]

    await asyncio.gather(*(process.work() for process in workers))

    assert sorted(d.execution_id for d in world.targets.deliveries) == sorted(
        execution.id for execution in queued
    )


async def test_a_worker_claims_at_most_as_many_executions_as_its_concurrency(world: World) -> None:
    process = world.compose_process(concurrency=2)
    job = await world.add_job()
    target = block_targets(world)
    for _ in range(5):
        await world.queue(job)

    assert await process.worker.tick() == AT_ONCE
    assert await process.worker.tick() > AT_ONCE
    running = [e for e in await world.list_executions(job) if e.status is ExecutionStatus.RUNNING]
    assert len(running) == 2
    target.may_end.set()
    await process.finish_attempts()
    await process.work()
    assert {e.status for e in await world.list_executions(job)} == {ExecutionStatus.SUCCEEDED}


async def test_a_worker_waits_until_the_next_execution_may_start(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job()
    assert await process.worker.tick() == timedelta(seconds=1)
    soon = world.clock.now() + timedelta(milliseconds=200)
    await world.queue(job, run_at=soon)
    assert await process.worker.tick() == timedelta(milliseconds=201)


async def test_the_end_of_an_attempt_wakes_a_worker_only_if_it_has_no_free_place(
    world: World,
) -> None:
    process = world.compose_process(concurrency=2)
    job = await world.add_job()
    target = block_targets(world)
    for count in (2, 1):
        for _ in range(count):
            await world.queue(job)
        await process.worker.tick()
        process.wake.executions.clear()
        target.may_end.set()
        await process.finish_attempts()
        assert process.wake.executions.is_set() is (count == 2)
        target.may_end.clear()


async def test_the_lease_of_an_attempt_that_ended_is_not_renewed(world: World) -> None:
    process = world.compose_process()
    await world.queue(await world.add_job())
    target = block_targets(world)
    await process.worker.tick()
    assert len(process.keeper.list_expiring(within=LEASE)) == 1
    target.may_end.set()
    await process.finish_attempts()
    assert process.keeper.list_expiring(within=timedelta(days=1)) == set()


@pytest.mark.parametrize("reason", [StopReason.LEASE_LOST, StopReason.SHUTDOWN, StopReason.CANCEL])
async def test_an_attempt_that_is_stopped_before_its_delivery_sends_nothing(
    world: World, reason: StopReason
) -> None:
    process = world.compose_process()
    job = await world.add_job()
    await world.queue(job)
    (claimed,) = await claim_due(process.leases, limit=1)
    lease = make_lease(claimed)
    assert await process.leases.start([AttemptStart(lease, 1, job.revision)]) == [True]
    attempt = RunningAttempt(claimed, job, 1)
    attempt.stop(reason)
    recorded = await process.worker._executor.run(attempt)
    assert recorded is (reason is not StopReason.LEASE_LOST)
    assert world.targets.deliveries == []


async def test_an_execution_of_a_deleted_job_ends_cancelled(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job()
    queued = await world.queue(job)
    assert await world.jobs.delete(job)

    await process.work()

    done = await world.read(queued)
    assert (done.status, done.reason) == (ExecutionStatus.CANCELLED, "job_deleted")
    assert done.attempts == ()
    assert world.targets.deliveries == []


async def test_deleting_a_job_cancels_its_queued_and_running_executions(world: World) -> None:
    process = world.compose_process(concurrency=1)
    job = await world.add_job()
    block_targets(world)
    running = await world.queue(job)
    await process.worker.tick()
    queued = await world.queue(job)

    assert await world.jobs.delete(job)
    await world.executions.cancel_for_deleted_job(job.id)
    await process.worker.watch()
    await process.finish_attempts()

    assert (await world.read(queued)).status is ExecutionStatus.CANCELLED
    stopped = await world.read(running)
    assert (stopped.status, stopped.reason) == (ExecutionStatus.CANCELLED, "job_deleted")
    assert stopped.attempts[0].outcome is AttemptOutcome.CANCELLED


async def test_a_deletion_cancels_a_bounded_number_and_the_worker_cancels_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executions, "CANCEL_LIMIT", 4)
    monkeypatch.setattr(executions, "_CANCELLED_AT_ONCE", 2)
    process = world.compose_process()
    job = await world.add_job(overlap_policy=OverlapPolicy.ALLOW_ALL)
    queued = [await world.queue(job) for _ in range(7)]

    assert await world.jobs.delete(job)
    await world.executions.cancel_for_deleted_job(job.id)
    stored = [await world.read(one) for one in queued]
    assert Counter(one.status for one in stored) == {
        ExecutionStatus.CANCELLED: 4,
        ExecutionStatus.QUEUED: 3,
    }

    with capture_logs() as logs:
        await process.work()
    stored = [await world.read(one) for one in queued]
    assert {(one.status, one.reason) for one in stored} == {
        (ExecutionStatus.CANCELLED, "job_deleted")
    }
    assert world.targets.deliveries == []
    assert [line["executions"] for line in logs if line["event"] == "claims_ended"] == [3]


async def test_a_success_after_a_requested_cancel_ends_as_cancelled(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job()
    queued = await world.queue(job)
    (claimed,) = await claim_due(process.leases, limit=1)
    await world.executions.cancel_for_deleted_job(job.id)

    assert await process.leases.settle([make_success(claimed)]) == [True]

    assert (await world.read(queued)).status is ExecutionStatus.CANCELLED


async def test_a_stop_waits_for_running_attempts(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job()
    queued = await world.queue(job)
    target = block_targets(world)
    await process.worker.tick()
    stopping = asyncio.create_task(process.worker.drain(timedelta(seconds=5)))
    await run_other_tasks(10)
    assert not stopping.done()
    target.may_end.set()
    await stopping

    assert (await world.read(queued)).status is ExecutionStatus.SUCCEEDED


async def test_a_stop_returns_unfinished_executions_to_the_queue(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    job = await world.add_job(retry=RetryPolicy(max_attempts=1))
    queued = await world.queue(job)
    world.targets.outcome_of = lambda d: asyncio.Event().wait() if d.attempt == 1 else SUCCEEDED
    await one.worker.tick()
    await one.worker.drain(timedelta(0))

    queued_again = await world.read(queued)
    assert queued_again.status is ExecutionStatus.QUEUED
    assert queued_again.attempts[0].error == "shutdown"
    await two.work()
    done = await world.read(queued)
    assert done.status is ExecutionStatus.SUCCEEDED  # the interrupted attempt did not count
