"""At most one process holds a lease: expiry, the reaper, the fence and renewal."""

import asyncio
from datetime import timedelta

import pytest

from app.errors import UnavailableError
from app.models.execution import AttemptOutcome, Execution, ExecutionStatus, Reason
from app.models.policy import RetryPolicy
from app.repositories.lease_fence import Lease
from app.repositories.leases import AttemptStart
from app.repositories.settlements import Settlement
from tests.integration.engine.attempts import block_targets, make_lease
from tests.support.engine import LEASE, SUCCEEDED, Process, World, claim_due
from tests.support.waiting import eventually

MILLISECOND = timedelta(milliseconds=1)


async def add_started_execution(world: World, process: Process, **changes: object) -> Execution:
    """Store an execution that `process` has claimed and started."""
    job = await world.add_job(**changes)
    await world.queue(job, live_for=job.id)
    (claimed,) = await claim_due(process.leases, limit=1)
    assert await process.leases.start([AttemptStart(make_lease(claimed), 1, job.revision)]) == [
        True
    ]
    return await world.read(claimed)


def make_first_success(execution: Execution) -> Settlement:
    """Make the settlement of a success of the first attempt."""
    return Settlement(make_lease(execution), ExecutionStatus.SUCCEEDED, 1, SUCCEEDED)


async def test_a_claim_leaves_out_executions_that_may_not_start_yet(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job()
    soon = world.clock.now() + MILLISECOND
    later = [await world.queue(job, run_at=soon) for _ in range(2)]
    assert await claim_due(process.leases, limit=1) == []
    due = [await world.queue(job) for _ in range(2)]
    assert {e.id for e in await claim_due(process.leases, limit=4)} == {e.id for e in due}
    world.clock.advance(MILLISECOND)
    assert {e.id for e in await claim_due(process.leases, limit=4)} == {e.id for e in later}


async def test_the_reaper_ignores_a_lease_that_has_not_expired(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    claimed = await add_started_execution(world, one)
    world.clock.advance(LEASE - MILLISECOND)

    await two.reaper.tick()

    assert await world.read(claimed) == claimed


async def test_the_attempt_of_an_expired_lease_is_abandoned_and_another_process_retries_it(
    world: World,
) -> None:
    one, two = world.compose_process(), world.compose_process()
    claimed = await add_started_execution(world, one)
    world.clock.advance(LEASE)

    await two.reaper.tick()

    queued = await world.read(claimed)
    assert queued.status is ExecutionStatus.QUEUED
    assert queued.attempts[0].outcome is AttemptOutcome.ABANDONED
    assert queued.lease_token == claimed.lease_token + 1
    assert queued.live_for == claimed.live_for
    await two.work()
    done = await world.read(claimed)
    assert done.status is ExecutionStatus.SUCCEEDED
    assert [a.outcome for a in done.attempts] == ["abandoned", "succeeded"]


async def test_an_abandoned_last_attempt_fails_the_execution(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    claimed = await add_started_execution(world, one, retry=RetryPolicy(max_attempts=1))
    world.clock.advance(LEASE)

    await two.reaper.tick()

    failed = await world.read(claimed)
    assert failed.status is ExecutionStatus.FAILED
    assert failed.attempts[0].error == "abandoned"
    assert failed.live_for is None


async def test_an_expired_claim_without_a_start_leaves_no_attempt(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    job = await world.add_job()
    queued = await world.queue(job)
    await claim_due(one.leases, limit=1)
    world.clock.advance(LEASE)

    await two.reaper.tick()

    reaped = await world.read(queued)
    assert (reaped.status, reaped.attempts) == (ExecutionStatus.QUEUED, ())


async def test_an_expired_execution_of_a_deleted_job_ends_cancelled(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    claimed = await add_started_execution(world, one)
    assert await world.jobs.delete(await world.jobs.get(claimed.job_id, owner_id=None))
    world.clock.advance(LEASE)

    await two.reaper.tick()

    ended = await world.read(claimed)
    assert (ended.status, ended.reason) == (ExecutionStatus.CANCELLED, "job_deleted")


async def test_an_expired_execution_with_a_requested_cancel_is_not_retried(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    claimed = await add_started_execution(world, one)
    await world.executions.cancel_for_deleted_job(claimed.job_id)
    world.clock.advance(LEASE)

    await two.reaper.tick()

    assert (await world.read(claimed)).status is ExecutionStatus.CANCELLED


async def test_a_process_without_the_lease_cannot_change_the_execution(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    claimed = await add_started_execution(world, one)
    world.clock.advance(LEASE)
    await two.reaper.tick()
    before = await world.read(claimed)

    assert await one.leases.settle([make_first_success(claimed)]) == [False]
    assert await one.leases.start([AttemptStart(make_lease(claimed), 2, 1)]) == [False]
    assert one.heartbeat.renew("process-1", [make_lease(claimed)], term=LEASE) == set()

    assert await world.read(claimed) == before


async def test_a_repeated_settlement_returns_the_same_result(world: World) -> None:
    """A process repeats the call if it did not receive the first response."""
    process = world.compose_process()
    claimed = await add_started_execution(world, process)

    assert await process.leases.settle([make_first_success(claimed)]) == [True]
    assert await process.leases.settle([make_first_success(claimed)]) == [True]

    assert len((await world.read(claimed)).attempts) == 1


async def test_a_batch_settles_the_valid_leases_and_reports_the_others(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    lost = await add_started_execution(world, one)
    world.clock.advance(LEASE)
    await two.reaper.tick()
    await two.work()
    kept = await add_started_execution(world, one)

    assert await one.leases.settle([make_first_success(lost), make_first_success(kept)]) == [
        False,
        True,
    ]


async def test_two_reapers_settle_an_execution_once(world: World) -> None:
    one, two, three = world.compose_process(), world.compose_process(), world.compose_process()
    claimed = await add_started_execution(world, one)
    world.clock.advance(LEASE)

    await asyncio.gather(two.reaper.tick(), three.reaper.tick())

    assert (await world.read(claimed)).lease_token == claimed.lease_token + 1


async def test_a_renewal_extends_a_lease_by_its_term(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    claimed = await add_started_execution(world, one)
    one.keeper.hold(make_lease(claimed), since=world.clock.monotonic())
    world.clock.advance(LEASE / 4)

    one.keeper.renew()

    renewed = await world.read(claimed)
    assert renewed.lease_until == world.clock.now() + LEASE
    world.clock.advance(LEASE - MILLISECOND)
    await two.reaper.tick()
    assert (await world.read(claimed)).status is ExecutionStatus.RUNNING


async def test_leases_are_not_renewed_if_the_event_loop_is_blocked(world: World) -> None:
    process = world.compose_process()
    claimed = await add_started_execution(world, process)
    process.keeper.hold(make_lease(claimed), since=world.clock.monotonic())
    world.clock.advance(LEASE + MILLISECOND)  # the event loop has not run since

    process.keeper.renew()

    assert (await world.read(claimed)).lease_until == claimed.lease_until


async def test_a_worker_that_cannot_renew_its_leases_stops_their_attempts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    job = await world.add_job()
    queued = await world.queue(job)
    target = block_targets(world)

    def fail(*_: object, **__: object) -> None:
        raise UnavailableError("no primary")

    await process.worker.tick()
    await target.began.wait()
    monkeypatch.setattr(process.heartbeat, "renew", fail)
    world.clock.advance(LEASE - timedelta(seconds=1))
    process.keeper.renew()
    await process.worker.guard()
    await eventually(lambda: target.stopped == [1], 1)  # before `finish_attempts` stops it
    await process.finish_attempts()

    assert (
        await world.read(queued)
    ).status is ExecutionStatus.RUNNING  # until the reaper settles it


async def test_the_thread_of_the_lease_keeper_reports_lost_leases(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    lost: set[Lease] = set()
    reported = asyncio.Event()

    def on_lost(leases: set[Lease]) -> None:
        lost.update(leases)
        reported.set()

    claimed = await add_started_execution(world, one)
    one.keeper.hold(make_lease(claimed), since=world.clock.monotonic())
    world.clock.advance(LEASE)
    await two.reaper.tick()
    one.keeper._on_lost = on_lost
    one.keeper._term = timedelta(milliseconds=40)
    one.keeper.start()
    async with asyncio.timeout(5):
        await reported.wait()
    await one.keeper.stop()

    assert lost == {make_lease(claimed)}


async def test_the_fence_of_a_lease_includes_the_status(world: World) -> None:
    """After a settlement the token is still the same, but nothing more may be written with it."""
    process = world.compose_process()
    claimed = await add_started_execution(world, process, retry=RetryPolicy(max_attempts=5))
    again = Settlement(make_lease(claimed), ExecutionStatus.QUEUED, 1, SUCCEEDED)
    assert await process.leases.settle([again]) == [True]
    queued = await world.read(claimed)
    await process.leases.settle([make_first_success(claimed)])
    await process.leases.start([AttemptStart(make_lease(claimed), 2, 1)])
    assert process.heartbeat.renew("process-1", [make_lease(claimed)], term=LEASE) == set()
    assert await world.read(claimed) == queued


async def test_the_first_request_to_cancel_stands(world: World) -> None:
    process = world.compose_process()
    claimed = await add_started_execution(world, process)
    assert await world.executions.request_cancel(claimed.id, reason=Reason.CANCELLED_BY_USER)
    first = await world.read(claimed)
    world.clock.advance(MILLISECOND)
    again = await world.executions.request_cancel(claimed.id, reason=Reason.CANCELLED_BY_OVERLAP)
    assert not again
    assert await world.read(claimed) == first


async def test_an_execution_that_is_terminated_has_no_lease(world: World) -> None:
    process = world.compose_process()
    claimed = await add_started_execution(world, process)
    newcomer = claimed.model_copy(update={"id": world.new_id()})
    await world.overlaps.terminate_live([newcomer])
    ended = await world.read(claimed)
    assert (ended.status, ended.lease_owner, ended.lease_until) == ("cancelled", None, None)
