"""At most one process holds a lease: expiry, the reaper, the fence and renewal."""

import asyncio
from datetime import timedelta

import pytest

from app.errors import UnavailableError
from app.models.execution import AttemptOutcome, Execution, ExecutionStatus
from app.models.policy import RetryPolicy
from app.repositories.lease_fence import Lease
from app.repositories.leases import AttemptStart
from app.repositories.settlements import Settlement
from tests.support.engine import LEASE, SUCCEEDED, Process, World

MILLISECOND = timedelta(milliseconds=1)


async def claim(world: World, process: Process, **changes: object) -> Execution:
    """Store an execution that `process` has claimed and started."""
    job = await world.add_job(**changes)
    await world.queue(job, live_for=job.id)
    (claimed,) = await process.leases.claim(limit=1)
    lease = Lease(claimed.id, claimed.lease_token)
    assert await process.leases.start([AttemptStart(lease, 1, job.revision)]) == [True]
    return await world.read(claimed)


def lease_of(execution: Execution) -> Lease:
    return Lease(execution.id, execution.lease_token)


def success_of(execution: Execution) -> Settlement:
    return Settlement(lease_of(execution), ExecutionStatus.SUCCEEDED, 1, SUCCEEDED)


async def test_the_reaper_ignores_a_lease_that_has_not_expired(world: World) -> None:
    one, two = world.process(), world.process()
    claimed = await claim(world, one)
    world.clock.advance(LEASE - MILLISECOND)

    await two.reaper.tick()

    assert await world.read(claimed) == claimed


async def test_the_attempt_of_an_expired_lease_is_abandoned_and_another_process_retries_it(
    world: World,
) -> None:
    one, two = world.process(), world.process()
    claimed = await claim(world, one)
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
    one, two = world.process(), world.process()
    claimed = await claim(world, one, retry=RetryPolicy(max_attempts=1))
    world.clock.advance(LEASE)

    await two.reaper.tick()

    failed = await world.read(claimed)
    assert failed.status is ExecutionStatus.FAILED
    assert failed.attempts[0].error == "abandoned"
    assert failed.live_for is None


async def test_an_expired_claim_without_a_start_leaves_no_attempt(world: World) -> None:
    one, two = world.process(), world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    await one.leases.claim(limit=1)
    world.clock.advance(LEASE)

    await two.reaper.tick()

    reaped = await world.read(queued)
    assert (reaped.status, reaped.attempts) == (ExecutionStatus.QUEUED, ())


async def test_an_expired_execution_of_a_deleted_job_ends_cancelled(world: World) -> None:
    one, two = world.process(), world.process()
    claimed = await claim(world, one)
    assert await world.jobs.delete(await world.jobs.get(claimed.job_id, owner_id=None))
    world.clock.advance(LEASE)

    await two.reaper.tick()

    ended = await world.read(claimed)
    assert (ended.status, ended.reason) == (ExecutionStatus.CANCELLED, "job_deleted")


async def test_an_expired_execution_with_a_requested_cancel_is_not_retried(world: World) -> None:
    one, two = world.process(), world.process()
    claimed = await claim(world, one)
    await world.executions.cancel_for_deleted_job(claimed.job_id)
    world.clock.advance(LEASE)

    await two.reaper.tick()

    assert (await world.read(claimed)).status is ExecutionStatus.CANCELLED


async def test_a_process_without_the_lease_cannot_change_the_execution(world: World) -> None:
    one, two = world.process(), world.process()
    claimed = await claim(world, one)
    world.clock.advance(LEASE)
    await two.reaper.tick()
    before = await world.read(claimed)

    assert await one.leases.settle([success_of(claimed)]) == [False]
    assert await one.leases.start([AttemptStart(lease_of(claimed), 2, 1)]) == [False]
    assert one.heartbeat.renew("process-1", [lease_of(claimed)], term=LEASE) == set()

    assert await world.read(claimed) == before


async def test_a_second_settle_returns_the_same_as_the_first(world: World) -> None:
    """A process repeats the call when the response of the first one was lost."""
    process = world.process()
    claimed = await claim(world, process)

    assert await process.leases.settle([success_of(claimed)]) == [True]
    assert await process.leases.settle([success_of(claimed)]) == [True]

    assert len((await world.read(claimed)).attempts) == 1


async def test_a_batch_settles_the_valid_leases_and_reports_the_others(world: World) -> None:
    one, two = world.process(), world.process()
    lost = await claim(world, one)
    world.clock.advance(LEASE)
    await two.reaper.tick()
    await two.work()
    kept = await claim(world, one)

    assert await one.leases.settle([success_of(lost), success_of(kept)]) == [False, True]


async def test_two_reapers_settle_an_execution_once(world: World) -> None:
    one, two, three = world.process(), world.process(), world.process()
    claimed = await claim(world, one)
    world.clock.advance(LEASE)

    await asyncio.gather(two.reaper.tick(), three.reaper.tick())

    assert (await world.read(claimed)).lease_token == claimed.lease_token + 1


async def test_a_renewal_extends_a_lease_by_its_term(world: World) -> None:
    one, two = world.process(), world.process()
    claimed = await claim(world, one)
    one.keeper.hold(lease_of(claimed), since=world.clock.monotonic())
    world.clock.advance(LEASE / 4)

    one.keeper.renew()

    renewed = await world.read(claimed)
    assert renewed.lease_until == world.clock.now() + LEASE
    world.clock.advance(LEASE - MILLISECOND)
    await two.reaper.tick()
    assert (await world.read(claimed)).status is ExecutionStatus.RUNNING


async def test_leases_are_not_renewed_if_the_event_loop_is_blocked(world: World) -> None:
    process = world.process()
    claimed = await claim(world, process)
    process.keeper.hold(lease_of(claimed), since=world.clock.monotonic())
    world.clock.advance(LEASE + MILLISECOND)  # the event loop has not run since

    process.keeper.renew()

    assert (await world.read(claimed)).lease_until == claimed.lease_until


async def test_a_worker_that_cannot_renew_its_leases_stops_their_attempts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.process()
    job = await world.add_job()
    queued = await world.queue(job)
    began, stopped = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    def refuse(*_: object, **__: object) -> None:
        raise UnavailableError("no primary")

    world.targets.outcome_of = lambda _: hang()
    await process.worker.tick()
    await began.wait()
    monkeypatch.setattr(process.heartbeat, "renew", refuse)
    world.clock.advance(LEASE - timedelta(seconds=1))
    process.keeper.renew()
    await process.worker.guard()
    await process.finish_attempts()

    assert stopped.is_set()
    assert (
        await world.read(queued)
    ).status is ExecutionStatus.RUNNING  # until the reaper settles it


async def test_the_thread_of_the_lease_keeper_reports_lost_leases(world: World) -> None:
    one, two = world.process(), world.process()
    lost: set[str] = set()
    reported = asyncio.Event()

    def on_lost(ids: set[str]) -> None:
        lost.update(ids)
        reported.set()

    claimed = await claim(world, one)
    one.keeper.hold(lease_of(claimed), since=world.clock.monotonic())
    world.clock.advance(LEASE)
    await two.reaper.tick()
    one.keeper._on_lost = on_lost
    one.keeper._term = timedelta(milliseconds=40)
    one.keeper.start()
    async with asyncio.timeout(5):
        await reported.wait()
    await one.keeper.stop()

    assert lost == {claimed.id}
