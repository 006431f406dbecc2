"""What follows an attempt: retries, failures and a receiver that is gone."""

from datetime import timedelta

from app.models.execution import AttemptOutcome, ExecutionStatus
from app.models.job import PauseReason
from app.models.outcome import Failure, Outcome
from app.models.policy import RetryPolicy, RetryStrategy
from app.targets.target import Delivery
from tests.support.engine import LEASE, SUCCEEDED, World

NOT_CONNECTED = Outcome(AttemptOutcome.FAILED, Failure.CONNECTION_ERROR, "could not connect")
MINUTE = timedelta(minutes=1)
FIXED = RetryPolicy(max_attempts=3, strategy=RetryStrategy.FIXED, delay_seconds=5)


async def test_a_failed_attempt_is_retried_after_the_delay(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(retry=FIXED)
    queued = await world.queue(job)
    world.targets.outcome_of = lambda d: NOT_CONNECTED if d.attempt == 1 else SUCCEEDED

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
    process = world.compose_process()
    job = await world.add_job(retry=FIXED)
    queued = await world.queue(job)
    world.targets.outcome_of = lambda _: NOT_CONNECTED
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
    process = world.compose_process()
    job = await world.add_job(retry=RetryPolicy(max_attempts=5))
    execution = await world.queue(job)
    world.targets.outcome_of = lambda _: Outcome(AttemptOutcome.FAILED, Failure.STATUS, gone=True)
    await process.work()
    ended = await world.read(execution)
    assert (ended.status, len(ended.attempts)) == (ExecutionStatus.FAILED, 1)
    paused = await world.jobs.get(job.id, owner_id=None)
    assert (paused.active, paused.pause_reason) == (False, PauseReason.GONE)


async def test_a_worker_without_the_lease_does_not_pause_the_job(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job()
    execution = await world.queue(job)

    async def lose_lease() -> Outcome:
        world.clock.advance(LEASE)
        await world.compose_process().reaper.tick()
        return Outcome(AttemptOutcome.FAILED, Failure.STATUS, gone=True)

    world.targets.outcome_of = lambda _: lose_lease()
    await process.worker.tick()
    await process.finish_attempts()
    assert (await world.read(execution)).attempts[0].outcome is AttemptOutcome.ABANDONED
    assert (await world.jobs.get(job.id, owner_id=None)).active


async def test_an_execution_between_two_attempts_is_live(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(
        world.every(60), retry=RetryPolicy(strategy=RetryStrategy.FIXED, delay_seconds=90)
    )
    world.targets.outcome_of = lambda _: NOT_CONNECTED
    for _ in range(2):
        world.clock.advance(MINUTE)
        await process.schedule()
        await process.work()

    assert [e.status for e in await world.list_executions(job)] == ["queued", "skipped"]


async def test_an_unexpected_exception_in_a_target_fails_the_attempt(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(retry=RetryPolicy(max_attempts=1))
    queued = await world.queue(job)

    def raise_error(_: Delivery) -> Outcome:
        raise ZeroDivisionError

    world.targets.outcome_of = raise_error
    await process.work()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.FAILED
    assert done.attempts[0].error == "internal error in the target"
