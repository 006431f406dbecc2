"""Short sequences of events. In each, a broken variant of the engine does something wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from app.models.execution import AttemptOutcome, TargetResponse
from app.models.outcome import Failure, Outcome
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy
from app.schemas.executions import AllExecutionsQuery
from app.targets.target import Delivery
from tests.chaos.evidence import Fault
from tests.chaos.recorder import SECOND, USER, EvidenceRecorder
from tests.support.crash import Killed
from tests.support.engine import LEASE, Process

Scenario = Callable[[EvidenceRecorder], Awaitable[None]]

_REJECTED = Outcome(
    AttemptOutcome.FAILED, Failure.STATUS, error="status 503", response=TargetResponse(status=503)
)


async def crash_while_firing(recorder: EvidenceRecorder) -> None:
    """A scheduler is killed before it writes the records; another one continues."""
    world = recorder.world
    one, two = world.compose_process(), world.compose_process()
    job = await recorder.create_job()
    await _fire_and_work(two)
    recorder.advance(SECOND)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(world.executions), "insert_many", _kill)
        with pytest.raises(Killed):
            await one.firing.fire([job], recorder.now)
    await _fire_and_work(two)
    recorder.advance(SECOND)
    await _fire_and_work(two)
    recorder.record_sent_pause()
    recorder.advance(SECOND)
    await _fire_and_work(two)


async def _kill(*_: object) -> None:
    raise Killed


async def finish_late(recorder: EvidenceRecorder) -> None:
    """A frozen worker loses its lease, and finishes while another one executes the slot."""
    one, two = await _begin_attempt(recorder)
    recorder.evidence.faults.append(Fault("freeze", recorder.now))
    recorder.advance(LEASE)
    await two.reaper.tick()
    first_may_respond, recorder.may_respond = recorder.may_respond, asyncio.Event()
    await two.worker.tick()
    first_may_respond.set()
    await one.finish_attempts()
    recorder.may_respond.set()
    await two.finish_attempts()


async def reap_during_an_attempt(recorder: EvidenceRecorder) -> None:
    """A reaper looks for expired leases while an attempt is running."""
    one, two = await _begin_attempt(recorder)
    await two.reaper.tick()
    recorder.may_respond.set()
    await one.finish_attempts()
    await two.work()


async def cancel_during_an_attempt(recorder: EvidenceRecorder) -> None:
    """A user cancels a running execution, and its success arrives afterwards."""
    one, two = await _begin_attempt(recorder)
    [execution] = (await two.runtime.executions.list_all(USER, AllExecutionsQuery())).items
    await two.runtime.executions.cancel(USER, execution.id)
    recorder.call("cancel", execution_id=execution.id)
    recorder.may_respond.set()
    await one.finish_attempts()
    recorder.advance(SECOND)
    await _fire_and_work(two)


async def _begin_attempt(
    recorder: EvidenceRecorder, policy: OverlapPolicy = OverlapPolicy.SKIP
) -> tuple[Process, Process]:
    """Let the first of two processes begin an attempt that does not end."""
    one, two = recorder.world.compose_process(), recorder.world.compose_process()
    await recorder.create_job(policy=policy)
    await one.schedule()
    recorder.advance(SECOND)
    recorder.may_respond.clear()
    await one.schedule()
    await one.worker.tick()
    recorder.record_sent_pause()
    return one, two


async def overlap_under_skip(recorder: EvidenceRecorder) -> None:
    """A slot becomes due while the execution of the one before is running."""
    one, two = await _begin_attempt(recorder)
    recorder.advance(SECOND)
    await _fire_beside(recorder, one, two)


async def overlap_under_buffer_one(recorder: EvidenceRecorder) -> None:
    """A slot waits for the execution of the one before, and a user executes the job beside it. The
    reaper ticks two seconds later."""
    one, two = await _begin_attempt(recorder, OverlapPolicy.BUFFER_ONE)
    recorder.advance(SECOND)
    [running] = (await two.runtime.executions.list_all(USER, AllExecutionsQuery())).items
    executed = await two.runtime.executions.execute(
        USER, running.job_id, parameters=None, overlap_policy=OverlapPolicy.ALLOW_ALL
    )
    recorder.call("execute", execution_id=executed.id, policy="allow_all")
    await _fire_beside(recorder, one, two)
    await two.work()
    recorder.advance(2 * SECOND)
    await two.reaper.tick()
    await two.work()


async def _fire_beside(recorder: EvidenceRecorder, one: Process, two: Process) -> None:
    await one.schedule()
    await two.schedule()
    await two.worker.tick()
    recorder.may_respond.set()
    await one.finish_attempts()
    await two.finish_attempts()


async def fire_by_two_schedulers(recorder: EvidenceRecorder) -> None:
    """Two schedulers fire the same due job, whose executions may overlap."""
    world = recorder.world
    one, two = world.compose_process(), world.compose_process()
    job = await recorder.create_job(policy=OverlapPolicy.ALLOW_ALL)
    await one.schedule()
    recorder.advance(SECOND)
    recorder.record_sent_pause()
    for process in (one, two):
        await process.firing.fire([job], recorder.now)
    await _fire_and_work(one)


async def fire_one_slot(recorder: EvidenceRecorder) -> None:
    """A slot becomes due, and its execution succeeds."""
    process = recorder.world.compose_process()
    await recorder.create_job()
    await process.schedule()
    recorder.advance(SECOND)
    recorder.record_sent_pause()
    await _fire_and_work(process)


async def fire_with_jitter(recorder: EvidenceRecorder) -> None:
    """A slot whose start is delayed becomes due."""
    process = recorder.world.compose_process()
    await recorder.create_job(60, jitter_seconds=2)
    await process.schedule()
    recorder.record_outage(60 * SECOND)
    recorder.advance(60 * SECOND)
    recorder.record_sent_pause()
    await process.schedule()
    for _second in range(2):
        recorder.advance(SECOND)
        await process.work()


async def fire_with_max_runs(recorder: EvidenceRecorder) -> None:
    """A schedule with `max_runs` 1 would have another slot."""
    process = recorder.world.compose_process()
    await recorder.create_job(max_runs=1)
    for _slot in range(2):
        await _fire_and_work(process)
        recorder.advance(SECOND)
    await _fire_and_work(process)


async def fire_after_an_outage(recorder: EvidenceRecorder) -> None:
    """Two slots are late, and the catch-up policy executes none; the next one is on time."""
    process = recorder.world.compose_process()
    policy = CatchUpPolicy(policy=CatchUpMode.NONE)
    await recorder.create_job(60, policy=OverlapPolicy.ALLOW_ALL, catch_up=policy)
    await process.schedule()
    length = timedelta(seconds=150)
    recorder.record_outage(length)
    recorder.advance(length)
    for _part in range(3):
        await _fire_and_work(process)
        recorder.advance(10 * SECOND)
    recorder.record_sent_pause()
    await _fire_and_work(process)


async def reject_every_attempt(recorder: EvidenceRecorder) -> None:
    """The receiver rejects each attempt. The job allows two."""
    recorder.respond = lambda _: (503, _REJECTED)
    await _attempt_three_times(recorder, max_attempts=2)


async def reject_the_first_attempt(recorder: EvidenceRecorder) -> None:
    """The receiver rejects the first attempt and accepts the second one."""

    def respond(sent: Delivery) -> tuple[int, Outcome]:
        return (503, _REJECTED) if sent.attempt == 1 else accepted(sent)

    accepted, recorder.respond = recorder.respond, respond
    await _attempt_three_times(recorder, max_attempts=3)


async def _attempt_three_times(recorder: EvidenceRecorder, *, max_attempts: int) -> None:
    process = recorder.world.compose_process()
    await recorder.create_job(max_attempts=max_attempts)
    await process.schedule()
    recorder.advance(SECOND)
    recorder.record_sent_pause()
    await process.schedule()
    for _attempt in range(3):
        await process.worker.tick()
        await process.finish_attempts()
        recorder.advance(SECOND)


async def read_after_an_edit(recorder: EvidenceRecorder) -> None:
    """A user reads a job, edits it and reads it again."""
    process = recorder.world.compose_process()
    async with Redis.from_url(recorder.redis_url) as redis:
        runtime = recorder.world.compose_api(redis)
        job = await recorder.create_job()
        await recorder.read(runtime, job)
        recorder.advance(SECOND)
        await _fire_and_work(process)
        recorder.advance(0.5 * SECOND)
        await recorder.edit(runtime, job, "edited")
        recorder.advance(0.1 * SECOND)
        await recorder.read(runtime, job)
        recorder.record_sent_pause()


async def _fire_and_work(process: Process) -> None:
    await process.schedule()
    await process.work()
