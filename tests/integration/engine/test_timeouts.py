"""Attempts that reach their timeout."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from app.models.execution import AttemptOutcome, ExecutionStatus
from app.models.outcome import Outcome
from app.models.policy import RetryPolicy
from tests.integration.engine.attempts import block_targets
from tests.support.engine import SUCCEEDED, World
from tests.support.waiting import run_other_tasks


async def test_a_target_that_ignores_the_timeout_is_stopped(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(timeout_seconds=5, retry=RetryPolicy(max_attempts=1))
    queued = await world.queue(job)
    target = block_targets(world)
    await process.worker.tick()
    await target.began.wait()
    world.clock.advance(timedelta(seconds=5.499))
    await run_other_tasks(10)
    assert (await world.read(queued)).status is ExecutionStatus.RUNNING
    world.clock.advance(timedelta(seconds=0.001))
    await process.finish_attempts()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.TIMED_OUT
    assert done.attempts[0].outcome is AttemptOutcome.TIMED_OUT
    assert done.attempts[0].error == "the target did not end within the timeout of 5 s"


async def test_a_job_that_was_saved_with_a_longer_timeout_is_cut_at_the_limit(
    world: World,
) -> None:
    process = world.compose_process(max_timeout_seconds=5)
    job = await world.add_job(timeout_seconds=86_400, retry=RetryPolicy(max_attempts=1))
    queued = await world.queue(job)
    target = block_targets(world)
    await process.worker.tick()
    await target.began.wait()
    assert world.targets.deliveries[0].timeout == timedelta(seconds=5)
    world.clock.advance(timedelta(seconds=5.5))
    await process.finish_attempts()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.TIMED_OUT
    assert done.attempts[0].error == "the target did not end within the timeout of 5 s"


@pytest.mark.parametrize("late", [Outcome(AttemptOutcome.SUCCEEDED), ValueError("late")], ids=type)
async def test_a_result_or_error_of_a_target_after_its_cancellation_is_ignored(
    world: World, late: Outcome | Exception
) -> None:
    process = world.compose_process()
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
    process = world.compose_process()
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
