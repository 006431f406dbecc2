"""Claims, attempts, retries and how an execution ends."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest

from app.engine.loop import AT_ONCE
from app.errors import UnavailableError
from app.models.execution import AttemptOutcome, Execution, ExecutionStatus, Reason, Response
from app.models.job import PauseReason
from app.models.outcome import Failure, Outcome
from app.models.policy import RetryPolicy, RetryStrategy
from app.repositories.lease_fence import Lease
from app.repositories.leases import LeaseRepository
from app.repositories.settlements import Settlement
from app.targets.target import Delivery
from tests.support.engine import LEASE, SUCCEEDED, World
from tests.support.waiting import eventually, run_other_tasks

REFUSED = Outcome(AttemptOutcome.FAILED, Failure.CONNECTION_ERROR, "could not connect")
MINUTE = timedelta(minutes=1)
FIXED = RetryPolicy(max_attempts=3, strategy=RetryStrategy.FIXED, delay_seconds=5)


@contextmanager
def lose_responses(monkeypatch: pytest.MonkeyPatch, method: str) -> Iterator[None]:
    """Let each call of a method on leases take effect and then raise; the body must raise, too."""
    call = getattr(LeaseRepository, method)

    async def lose_response(self: LeaseRepository, *args: Any, **named: Any) -> None:
        await call(self, *args, **named)
        raise UnavailableError("the response is lost")

    with monkeypatch.context() as patched:
        patched.setattr(LeaseRepository, method, lose_response)
        with pytest.raises(UnavailableError):
            yield


async def test_a_queued_execution_is_delivered_and_recorded(world: World) -> None:
    process = world.process()
    job = await world.add_job(parameters={"a": 1})
    response = Response(status=200, headers={"content-type": "text/plain"}, body="ok")
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
    process = world.process()
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
    process = world.process()
    job = await world.add_job(world.every(60))
    for _ in range(3):
        world.clock.advance(MINUTE)
        await process.schedule()
        await process.work()

    assert [e.status for e in await world.history(job)] == ["succeeded"] * 3


async def test_values_are_never_evaluated_as_expressions(world: World) -> None:
    process = world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    body = Response(status=500, headers={"$x": "$job_id", "a.b": "$$NOW"}, body="$owner_id")
    world.targets.outcome_of = lambda _: Outcome(
        AttemptOutcome.FAILED, Failure.REFUSED, "$job_id", body
    )

    await process.work()

    (attempt,) = (await world.read(queued)).attempts
    assert attempt.error == "$job_id"
    assert attempt.response == body


async def test_several_workers_never_run_the_same_execution(world: World) -> None:
    workers = [world.process() for _ in range(4)]
    job = await world.add_job()
    queued = [await world.queue(job) for _ in range(60)]

    await asyncio.gather(*(process.work() for process in workers))

    assert sorted(d.execution_id for d in world.targets.deliveries) == sorted(
        execution.id for execution in queued
    )


async def test_a_worker_claims_at_most_as_many_executions_as_its_concurrency(world: World) -> None:
    process = world.process(concurrency=2)
    job = await world.add_job()
    blocked = asyncio.Event()

    async def wait_and_succeed() -> Outcome:
        await blocked.wait()
        return SUCCEEDED

    world.targets.outcome_of = lambda _: wait_and_succeed()
    for _ in range(5):
        await world.queue(job)

    assert await process.worker.tick() == AT_ONCE
    assert await process.worker.tick() > AT_ONCE
    running = [e for e in await world.history(job) if e.status is ExecutionStatus.RUNNING]
    assert len(running) == 2
    blocked.set()
    await process.finish_attempts()
    await process.work()
    assert {e.status for e in await world.history(job)} == {ExecutionStatus.SUCCEEDED}


async def test_a_worker_waits_until_the_next_execution_may_start(world: World) -> None:
    process = world.process()
    job = await world.add_job()
    assert await process.worker.tick() == timedelta(seconds=1)
    soon = world.clock.now() + timedelta(milliseconds=200)
    await world.queue(job, run_at=soon)
    assert await process.worker.tick() == timedelta(milliseconds=201)


async def test_a_failed_attempt_is_retried_after_the_delay(world: World) -> None:
    process = world.process()
    job = await world.add_job(retry=FIXED)
    queued = await world.queue(job)
    world.targets.outcome_of = lambda d: REFUSED if d.attempt == 1 else SUCCEEDED

    await process.work()
    delayed = await world.read(queued)
    assert delayed.status is ExecutionStatus.QUEUED
    assert delayed.run_at == world.clock.now() + timedelta(seconds=5)
    assert delayed.finished_at is None
    world.clock.advance(timedelta(seconds=5))
    await process.work()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.SUCCEEDED
    assert [a.outcome for a in done.attempts] == ["failed", "succeeded"]
    assert [a.number for a in done.attempts] == [1, 2]
    assert done.lease_token == 2


async def test_an_execution_fails_when_its_attempts_run_out(world: World) -> None:
    process = world.process()
    job = await world.add_job(retry=FIXED)
    queued = await world.queue(job)
    world.targets.outcome_of = lambda _: REFUSED
    for _ in range(10):
        await process.work()
        world.clock.advance(timedelta(seconds=5))

    done = await world.read(queued)
    assert done.status is ExecutionStatus.FAILED
    assert len(done.attempts) == 3
    assert done.attempts[-1].error == "could not connect"


async def test_a_receiver_that_is_gone_is_not_called_again_and_its_job_is_paused(
    world: World,
) -> None:
    process = world.process()
    job = await world.add_job(retry=RetryPolicy(max_attempts=5))
    execution = await world.queue(job)
    world.targets.outcome_of = lambda _: Outcome(AttemptOutcome.FAILED, Failure.STATUS, gone=True)
    await process.work()
    ended = await world.read(execution)
    assert (ended.status, len(ended.attempts)) == (ExecutionStatus.FAILED, 1)
    paused = await world.jobs.get(job.id, owner_id=None)
    assert (paused.active, paused.pause_reason) == (False, PauseReason.GONE)


async def test_a_worker_without_the_lease_does_not_pause_the_job(world: World) -> None:
    process = world.process()
    job = await world.add_job()
    execution = await world.queue(job)

    async def lose_lease() -> Outcome:
        world.clock.advance(LEASE)
        await world.process().reaper.tick()
        return Outcome(AttemptOutcome.FAILED, Failure.STATUS, gone=True)

    world.targets.outcome_of = lambda _: lose_lease()
    await process.worker.tick()
    await process.finish_attempts()
    assert (await world.read(execution)).attempts[0].outcome is AttemptOutcome.ABANDONED
    assert (await world.jobs.get(job.id, owner_id=None)).active


async def test_an_execution_that_waits_for_its_retry_is_live(world: World) -> None:
    process = world.process()
    job = await world.add_job(
        world.every(60), retry=RetryPolicy(strategy=RetryStrategy.FIXED, delay_seconds=90)
    )
    world.targets.outcome_of = lambda _: REFUSED
    for _ in range(2):
        world.clock.advance(MINUTE)
        await process.schedule()
        await process.work()

    assert [e.status for e in await world.history(job)] == ["queued", "skipped"]


async def test_a_target_that_ignores_the_timeout_is_stopped(world: World) -> None:
    process = world.process()
    job = await world.add_job(timeout_seconds=5, retry=RetryPolicy(max_attempts=1))
    queued = await world.queue(job)
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    world.targets.outcome_of = lambda _: hang()
    await process.worker.tick()
    await began.wait()
    world.clock.advance(timedelta(seconds=5.499))
    await run_other_tasks(10)
    assert (await world.read(queued)).status is ExecutionStatus.RUNNING
    world.clock.advance(timedelta(seconds=0.001))
    await process.finish_attempts()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.TIMED_OUT
    assert done.attempts[0].outcome is AttemptOutcome.TIMED_OUT
    assert done.attempts[0].error == "the target did not end within the timeout of 5 s"


@pytest.mark.parametrize("late", [Outcome(AttemptOutcome.SUCCEEDED), ValueError("late")], ids=type)
async def test_a_result_or_error_of_a_target_after_its_cancellation_is_ignored(
    world: World, late: Outcome | Exception
) -> None:
    process = world.process()
    job = await world.add_job(timeout_seconds=5, retry=RetryPolicy(max_attempts=1))
    queued = await world.queue(job)
    began = asyncio.Event()

    async def suppress_cancellation() -> Outcome:
        began.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if isinstance(late, Exception):
            raise late
        return late

    world.targets.outcome_of = lambda _: suppress_cancellation()
    await process.worker.tick()
    await began.wait()
    world.clock.advance(timedelta(seconds=5.5))
    await process.finish_attempts()

    assert (await world.read(queued)).status is ExecutionStatus.TIMED_OUT


async def test_a_target_that_cannot_be_cancelled_times_out_within_a_second(world: World) -> None:
    process = world.process()
    job = await world.add_job(timeout_seconds=5, retry=RetryPolicy(max_attempts=1))
    queued = await world.queue(job)
    began, cancelled, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hang() -> Outcome:
        began.set()
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                cancelled.set()
        return SUCCEEDED

    world.targets.outcome_of = lambda _: hang()
    await process.worker.tick()
    await began.wait()
    world.clock.advance(timedelta(seconds=5.5))
    await cancelled.wait()
    world.clock.advance(timedelta(seconds=0.4))
    await process.finish_attempts()
    may_end.set()
    await run_other_tasks(2)

    done = await world.read(queued)
    assert done.status is ExecutionStatus.TIMED_OUT
    assert done.finished_at is not None
    assert done.attempts[0].started_at is not None
    assert done.finished_at - done.attempts[0].started_at < timedelta(seconds=6)


async def test_an_unexpected_exception_in_a_target_fails_the_attempt(world: World) -> None:
    process = world.process()
    job = await world.add_job(retry=RetryPolicy(max_attempts=1))
    queued = await world.queue(job)

    def raise_error(_: Delivery) -> Outcome:
        raise ZeroDivisionError

    world.targets.outcome_of = raise_error
    await process.work()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.FAILED
    assert done.attempts[0].error == "internal error in the target"


async def test_an_execution_of_a_deleted_job_ends_cancelled(world: World) -> None:
    process = world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    assert await world.jobs.delete(job)

    await process.work()

    done = await world.read(queued)
    assert (done.status, done.reason) == (ExecutionStatus.CANCELLED, "job_deleted")
    assert done.attempts == ()
    assert world.targets.deliveries == []


async def test_deleting_a_job_cancels_its_queued_and_running_executions(world: World) -> None:
    process = world.process(concurrency=1)
    job = await world.add_job()
    world.targets.outcome_of = lambda _: asyncio.Event().wait()
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


async def test_a_success_after_a_requested_cancel_ends_as_cancelled(world: World) -> None:
    process = world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    (claimed,) = await process.leases.claim(limit=1)
    await world.executions.cancel_for_deleted_job(job.id)

    lease = Lease(claimed.id, claimed.lease_token)
    assert await process.leases.settle([Settlement(lease, ExecutionStatus.SUCCEEDED)]) == [True]

    assert (await world.read(queued)).status is ExecutionStatus.CANCELLED


async def test_a_stop_waits_for_running_attempts(world: World) -> None:
    process = world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    may_end = asyncio.Event()

    async def wait_and_succeed() -> Outcome:
        await may_end.wait()
        return SUCCEEDED

    world.targets.outcome_of = lambda _: wait_and_succeed()
    await process.worker.tick()
    stopping = asyncio.create_task(process.worker.drain(timedelta(seconds=5)))
    await run_other_tasks(10)
    assert not stopping.done()
    may_end.set()
    await stopping

    assert (await world.read(queued)).status is ExecutionStatus.SUCCEEDED


async def test_a_stop_queues_executions_that_do_not_end_in_time_again(world: World) -> None:
    one, two = world.process(), world.process()
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


async def test_an_execution_whose_claim_had_no_response_is_found_and_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    with lose_responses(monkeypatch, "claim"):
        await process.worker.tick()
    await process.work()
    await process.finish_attempts()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.SUCCEEDED
    assert len(done.attempts) == 1


async def test_an_execution_that_ends_while_the_worker_reads_its_claims_is_not_started_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response of the database lists an execution that ends before the worker receives it."""
    process = world.process()
    job = await world.add_job()
    may_end = asyncio.Event()

    async def wait_and_succeed() -> Outcome:
        await may_end.wait()
        return SUCCEEDED

    world.targets.outcome_of = lambda _: wait_and_succeed()
    first = await world.queue(job)
    await process.worker.tick()
    await world.queue(job)
    list_owned = LeaseRepository.list_owned

    async def list_slowly(self: LeaseRepository) -> list[Execution]:
        found = await list_owned(self)
        may_end.set()
        await eventually(lambda: first.id not in process.worker._running)
        return found

    with lose_responses(monkeypatch, "claim"):
        await process.worker.tick()
    monkeypatch.setattr(LeaseRepository, "list_owned", list_slowly)
    await process.worker.tick()
    await process.finish_attempts()

    assert [d.execution_id for d in world.targets.deliveries].count(first.id) == 1


async def test_a_repeated_start_after_a_lost_response_adds_no_second_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    with lose_responses(monkeypatch, "start"):
        await process.worker.tick()
    await process.work()
    await process.finish_attempts()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.SUCCEEDED
    assert [a.number for a in done.attempts] == [1]


async def test_an_attempt_whose_result_was_discarded_is_not_repeated_under_the_same_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.process()
    job = await world.add_job()
    discarded = await world.queue(job)
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    world.targets.outcome_of = lambda _: hang()
    await process.worker.tick()
    await began.wait()
    process.worker.stop_lost({discarded.id})
    await process.finish_attempts()
    # After an error in a claim, the worker reads the executions that it has claimed.
    await world.queue(job)
    with monkeypatch.context() as patched:
        patched.setattr(LeaseRepository, "claim", _refuse)
        with pytest.raises(UnavailableError):
            await process.worker.tick()
    world.targets.outcome_of = lambda _: SUCCEEDED
    await process.work()

    assert (
        await world.read(discarded)
    ).status is ExecutionStatus.RUNNING  # until the reaper settles it
    assert [d.execution_id for d in world.targets.deliveries].count(discarded.id) == 1


async def test_an_execution_whose_claim_had_a_late_response_is_not_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    claim = LeaseRepository.claim

    async def claim_slowly(self: LeaseRepository, *, limit: int) -> list[Execution]:
        claimed = await claim(self, limit=limit)
        world.clock.advance(LEASE)
        return claimed

    with monkeypatch.context() as patched:
        patched.setattr(LeaseRepository, "claim", claim_slowly)
        await process.worker.tick()
    await process.finish_attempts()
    assert not world.targets.deliveries
    await process.reaper.tick()
    await process.work()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.SUCCEEDED
    assert [attempt.number for attempt in done.attempts] == [1]


async def _refuse(*_: object, **__: object) -> None:
    raise UnavailableError("no primary")


async def test_a_worker_that_claims_an_execution_again_stops_its_older_attempt(
    world: World,
) -> None:
    """The old lease has expired. The worker stops the old attempt and can cancel the new one."""
    process = world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    stopped: list[int] = []

    async def hang(delivery: Delivery) -> Outcome:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(delivery.attempt)
        return SUCCEEDED

    world.targets.outcome_of = hang
    await process.worker.tick()
    await run_other_tasks()
    world.clock.advance(LEASE)
    await process.reaper.tick()
    await process.worker.tick()
    await eventually(lambda: stopped == [1])
    assert await world.executions.request_cancel(queued.id, reason=Reason.CANCELLED_BY_USER)
    await process.worker.watch()
    await process.finish_attempts()

    assert stopped == [1, 2]
    done = await world.read(queued)
    assert done.status is ExecutionStatus.CANCELLED
    assert [a.outcome for a in done.attempts] == ["abandoned", "cancelled"]


async def test_a_result_is_recorded_after_a_short_outage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    settle, failures = LeaseRepository.settle, iter([True, True, False])

    async def settle_or_fail(self: LeaseRepository, settlements: object) -> list[bool]:
        if next(failures):
            raise UnavailableError("no primary")
        return await settle(self, settlements)  # type: ignore[arg-type]

    monkeypatch.setattr(LeaseRepository, "settle", settle_or_fail)
    monkeypatch.setattr("app.engine.executor._SETTLE_RETRY_INTERVAL", timedelta(0))
    await process.work()

    assert (await world.read(queued)).status is ExecutionStatus.SUCCEEDED
    assert len(world.targets.deliveries) == 1
