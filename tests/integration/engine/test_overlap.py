"""The six overlap policies, for a slot whose job still has a live execution."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.models.execution import AttemptOutcome, Execution, ExecutionKind, ExecutionStatus
from app.models.job import Job
from app.models.outcome import Failure, Outcome
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy, RetryPolicy
from app.models.schedule import IntervalSchedule
from app.services.admission import Candidate
from tests.integration.engine.attempts import block_targets, make_success
from tests.support.engine import LEASE, SUCCEEDED, Process, World, claim_due

FAILED = Outcome(AttemptOutcome.FAILED, Failure.STATUS, "responded 500")
MINUTE = timedelta(minutes=1)


async def add_busy_job(world: World, process: Process, policy: OverlapPolicy) -> Job:
    """Store a job that is due every minute. Its first execution is claimed and does not end."""
    job = await world.add_job(world.every(60), overlap_policy=policy)
    await fire(world, process)
    await claim_due(process.leases, limit=1)
    return job


async def fire(world: World, process: Process, times: int = 1) -> None:
    for _ in range(times):
        world.clock.advance(MINUTE)
        await process.schedule()


async def finish_live(world: World, process: Process, job: Job) -> None:
    """Let the live execution succeed and promote the next one."""
    (live,) = [e for e in await world.list_executions(job) if e.status is ExecutionStatus.RUNNING]
    assert await process.leases.settle([make_success(live)]) == [True]
    await world.promotions.promote([job.id])


def summarize(executions: list[Execution]) -> list[tuple[str, str | None, bool]]:
    return [(e.status.value, e.reason, e.waiting) for e in executions]


async def test_under_buffer_one_one_slot_waits_and_the_others_are_skipped(world: World) -> None:
    process = world.compose_process()
    job = await add_busy_job(world, process, OverlapPolicy.BUFFER_ONE)
    await fire(world, process, times=3)

    assert summarize(await world.list_executions(job)) == [
        ("running", None, False),
        ("queued", None, True),
        ("skipped", "buffer_full", False),
        ("skipped", "buffer_full", False),
    ]


async def test_a_waiting_execution_is_not_claimed(world: World) -> None:
    process = world.compose_process()
    await add_busy_job(world, process, OverlapPolicy.BUFFER_ONE)
    await fire(world, process)
    assert await claim_due(process.leases, limit=10) == []


async def test_a_waiting_execution_starts_when_the_live_one_ends(world: World) -> None:
    process = world.compose_process(lease_seconds=600)
    job = await add_busy_job(world, process, OverlapPolicy.BUFFER_ONE)
    await fire(world, process)
    await finish_live(world, process, job)
    await process.work()

    first, second = await world.list_executions(job)
    assert (first.status, second.status) == ("succeeded", "succeeded")
    assert second.place is None
    assert second.live_for is None


async def test_buffer_all_executes_every_slot_in_order(world: World) -> None:
    process = world.compose_process(lease_seconds=600)
    job = await add_busy_job(world, process, OverlapPolicy.BUFFER_ALL)
    await fire(world, process, times=4)
    assert [e.waiting for e in await world.list_executions(job)] == [False, True, True, True, True]

    await finish_live(world, process, job)
    await process.work()

    history = await world.list_executions(job)
    assert {e.status for e in history} == {ExecutionStatus.SUCCEEDED}
    order = [delivery.execution_id for delivery in world.targets.deliveries]
    assert order == [e.id for e in history[1:]]


async def test_a_slot_is_skipped_if_100_executions_wait(world: World) -> None:
    process = world.compose_process()
    job = await add_busy_job(world, process, OverlapPolicy.BUFFER_ALL)
    await fire(world, process, times=102)

    history = await world.list_executions(job)
    assert sum(e.waiting for e in history) == 100
    assert [e.reason for e in history[-2:]] == ["buffer_full", "buffer_full"]


async def test_two_schedulers_queue_a_waiting_slot_once(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    job = await add_busy_job(world, one, OverlapPolicy.BUFFER_ALL)
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=10)

    await asyncio.gather(
        one.firing.fire(due, world.clock.now()), two.firing.fire(due, world.clock.now())
    )

    assert len(await world.list_executions(job)) == 2


async def test_the_reaper_promotes_if_a_worker_was_killed_before_its_promotion(
    world: World,
) -> None:
    process = world.compose_process(lease_seconds=600)
    job = await add_busy_job(world, process, OverlapPolicy.BUFFER_ONE)
    await fire(world, process)
    (live, waiting) = await world.list_executions(job)
    await process.leases.settle([make_success(live)])  # the worker is killed before it promotes

    await process.reaper.tick()

    promoted = await world.read(waiting)
    assert (promoted.waiting, promoted.live_for) == (False, job.id)


async def test_a_waiting_execution_starts_after_the_lease_of_the_live_one_expired(
    world: World,
) -> None:
    process = world.compose_process()
    job = await add_busy_job(world, process, OverlapPolicy.BUFFER_ONE)
    await fire(world, process)
    world.clock.advance(LEASE)
    await process.reaper.tick()  # no attempt of the first was started, so it is queued again
    await process.work()

    assert [e.status for e in await world.list_executions(job)] == ["succeeded", "succeeded"]


async def test_cancel_other_stops_the_live_execution_and_then_executes_the_slot(
    world: World,
) -> None:
    process = world.compose_process()
    target = block_targets(world)
    job = await world.add_job(world.every(5), overlap_policy=OverlapPolicy.CANCEL_OTHER)
    world.clock.advance(timedelta(seconds=5))
    await process.schedule()
    await process.worker.tick()
    await target.began.wait()
    world.targets.outcome_of = lambda _: SUCCEEDED
    world.clock.advance(timedelta(seconds=5))
    await process.schedule()

    await process.worker.watch()
    await process.finish_attempts()
    await process.work()

    first, second = await world.list_executions(job)
    assert (first.status, first.reason) == ("cancelled", "cancelled_by_overlap")
    assert first.attempts[0].outcome is AttemptOutcome.CANCELLED
    assert second.status is ExecutionStatus.SUCCEEDED


async def test_cancel_other_ends_a_queued_execution_immediately(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60), overlap_policy=OverlapPolicy.CANCEL_OTHER)
    await fire(world, process, times=3)

    assert summarize(await world.list_executions(job)) == [
        ("cancelled", "cancelled_by_overlap", False),
        ("cancelled", "cancelled_by_overlap", False),
        ("queued", None, False),
    ]


async def test_under_cancel_other_a_newer_slot_replaces_the_waiting_one(world: World) -> None:
    process = world.compose_process()
    job = await add_busy_job(world, process, OverlapPolicy.CANCEL_OTHER)
    await fire(world, process, times=3)

    assert summarize(await world.list_executions(job)) == [
        ("running", "cancelled_by_overlap", False),
        ("cancelled", "replaced_by_newer", False),
        ("cancelled", "replaced_by_newer", False),
        ("queued", None, True),
    ]


async def test_terminate_other_ends_the_live_execution_and_rejects_its_late_result(
    world: World,
) -> None:
    process = world.compose_process()
    job = await add_busy_job(world, process, OverlapPolicy.TERMINATE_OTHER)
    (live,) = await world.list_executions(job)
    await fire(world, process)

    late = make_success(live)
    assert await process.leases.settle([late]) == [False]
    first, second = await world.list_executions(job)
    assert (first.status, first.reason) == ("cancelled", "terminated_by_overlap")
    assert (second.status, second.live_for) == ("queued", job.id)


async def test_a_second_firing_of_a_slot_does_not_terminate_its_execution(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    job = await add_busy_job(world, one, OverlapPolicy.TERMINATE_OTHER)
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    await one.firing.fire(due, world.clock.now())
    await two.firing.fire(due, world.clock.now())

    assert summarize(await world.list_executions(job)) == [
        ("cancelled", "terminated_by_overlap", False),
        ("queued", None, False),
    ]


async def test_an_allow_all_execution_neither_blocks_nor_is_blocked(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60), overlap_policy=OverlapPolicy.SKIP)
    await world.queue(job)  # manual: allow_all
    await claim_due(process.leases, limit=1)
    await fire(world, process)

    assert [e.status for e in await world.list_executions(job)] == ["running", "queued"]


async def test_buffer_all_executes_the_late_slots_of_an_outage_in_order(world: World) -> None:
    process = world.compose_process()
    all_slots = CatchUpPolicy(policy=CatchUpMode.ALL)
    schedule: IntervalSchedule = world.every(60)
    job = await world.add_job(schedule, overlap_policy=OverlapPolicy.BUFFER_ALL, catch_up=all_slots)
    world.clock.advance(10 * MINUTE)
    await process.schedule()
    for _ in range(10):
        world.clock.advance(timedelta(seconds=1))
        await process.work()

    history = await world.list_executions(job)
    assert [e.status for e in history[:10]] == ["succeeded"] * 10
    order = [delivery.execution_id for delivery in world.targets.deliveries]
    assert order == [e.id for e in history[:10]]


async def test_a_cancelled_execution_is_not_retried_and_the_next_one_is_promoted(
    world: World,
) -> None:
    process = world.compose_process(lease_seconds=600)
    job = await world.add_job(world.every(60), overlap_policy=OverlapPolicy.CANCEL_OTHER)
    target = block_targets(world, FAILED)
    await fire(world, process)
    await process.worker.tick()
    await fire(world, process)  # asks the first one to stop
    target.may_end.set()
    await process.finish_attempts()

    assert summarize(await world.list_executions(job)) == [
        ("cancelled", "cancelled_by_overlap", False),
        ("queued", None, False),
    ]


async def test_a_cancel_ends_an_execution_that_is_queued_again_between_its_read_and_its_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    job = await world.add_job(retry=RetryPolicy(max_attempts=5, delay_seconds=300))
    live = await world.queue(job, live_for=job.id)
    target = block_targets(world, FAILED)
    await process.worker.tick()
    collection = world.overlaps._executions

    class InterruptingCollection:
        """Ends the attempt after the first read of the cancel."""

        def __getattr__(self, name: str) -> Any:
            return getattr(collection, name)

        def find(self, *args: Any, **named: Any) -> Any:
            return InterruptingCursor(collection.find(*args, **named))

    class InterruptingCursor:
        def __init__(self, cursor: Any) -> None:
            self._cursor = cursor

        async def to_list(self, length: int | None) -> Any:
            result = await self._cursor.to_list(length)
            target.may_end.set()
            await process.finish_attempts()
            return result

    monkeypatch.setattr(world.overlaps, "_executions", InterruptingCollection())
    newer = live.model_copy(
        update={"id": world.new_id(), "scheduled_for": live.scheduled_for + MINUTE}
    )
    new = Candidate(newer, OverlapPolicy.CANCEL_OTHER)
    await world.admission.apply_policies([new], world.clock.now())

    assert (await world.read(live)).status == "cancelled"
    assert (await world.read(newer)).status == "queued"


async def test_under_buffer_one_a_slot_is_skipped_if_an_execution_waits_at_a_later_position(
    world: World,
) -> None:
    """The waiting executions were buffered under `buffer_all`. Position 0 is free."""
    process = world.compose_process(lease_seconds=600)
    job = await add_busy_job(world, process, OverlapPolicy.BUFFER_ALL)
    await fire(world, process, times=3)
    await finish_live(world, process, job)
    stored = await world.jobs.get(job.id, owner_id=None)
    changes = {"overlap_policy": OverlapPolicy.BUFFER_ONE, "revision": stored.revision + 1}
    assert await world.jobs.replace(stored.model_copy(update=changes), expected=stored)
    await fire(world, process)

    assert summarize(await world.list_executions(job))[-2:] == [
        ("queued", None, True),
        ("skipped", "buffer_full", False),
    ]


async def retry_during_a_live_retry(world: World, policy: OverlapPolicy) -> list[Execution]:
    """Retry a slot whose first retry is still live. Return both retries."""
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    await fire(world, process)
    await process.work()
    (ended,) = await world.list_executions(job)
    retry = {"kind": ExecutionKind.RETRY, "schedule_id": ended.schedule_id, "live_for": job.id}
    first = await world.queue(job, **retry, scheduled_for=ended.scheduled_for)
    await claim_due(process.leases, limit=1)
    second = first.model_copy(update={"id": world.new_id()})
    await world.admission.admit(second, policy, world.clock.now())
    return [await world.read(first), await world.read(second)]


async def test_terminate_other_ends_another_retry_of_the_same_slot(world: World) -> None:
    retries = await retry_during_a_live_retry(world, OverlapPolicy.TERMINATE_OTHER)

    assert summarize(retries) == [
        ("cancelled", "terminated_by_overlap", False),
        ("queued", None, False),
    ]


async def test_cancel_other_stops_another_retry_of_the_same_slot(world: World) -> None:
    first, second = await retry_during_a_live_retry(world, OverlapPolicy.CANCEL_OTHER)

    assert first.cancel_requested_at == world.clock.now()
    assert (second.status, second.waiting) == ("queued", True)


async def test_cancel_other_promotes_a_newer_waiting_execution(world: World) -> None:
    """The older execution cancels the live one. A newer execution is waiting and is promoted."""
    process = world.compose_process()
    job = await world.add_job(overlap_policy=OverlapPolicy.CANCEL_OTHER)
    live = await world.queue(job, live_for=job.id)
    newer = await world.queue(job, waiting=True, place=0)
    older = live.model_copy(
        update={"id": world.new_id(), "scheduled_for": newer.scheduled_for - MINUTE}
    )
    await world.admission.admit(older, OverlapPolicy.CANCEL_OTHER, world.clock.now())

    assert summarize([await world.read(e) for e in (live, older, newer)]) == [
        ("cancelled", "cancelled_by_overlap", False),
        ("skipped", "buffer_full", False),
        ("queued", None, False),
    ]
    assert [e.id for e in await claim_due(process.leases, limit=10)] == [newer.id]
