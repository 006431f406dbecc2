"""Executions that a worker has claimed, and perhaps started, without a response."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from app.errors import UnavailableError
from app.models.execution import AttemptOutcome, Execution, ExecutionStatus, Reason
from app.models.outcome import Failure, Outcome
from app.models.policy import RetryPolicy, RetryStrategy
from app.repositories.leases import LeaseRepository
from tests.integration.engine.attempts import (
    act_around,
    block_targets,
    lose_responses,
    make_lease,
)
from tests.support.engine import LEASE, Process, World
from tests.support.waiting import eventually

FAILED = Outcome(AttemptOutcome.FAILED, Failure.STATUS, "status 500")
Document = dict[str, Any]

START_IS_LOST: Document = {"$set": {"attempts": []}}
CLAIM_IS_LOST: Document = {
    "$set": {"attempts": [], "status": "queued", "lease_token": 0},
    "$unset": {"lease_owner": True, "lease_until": True},
}


@pytest.mark.parametrize("rollback", [START_IS_LOST, CLAIM_IS_LOST], ids=["start", "claim"])
async def test_a_start_that_a_new_primary_does_not_have_is_not_trusted(
    world: World, monkeypatch: pytest.MonkeyPatch, rollback: Document
) -> None:
    """The worker read the start from a primary that is lost then, with the latest writes."""
    process = world.compose_process()
    queued = await world.queue(await world.add_job())
    with lose_responses(monkeypatch, "start"):
        await process.worker.tick()

    async def fail_over() -> None:
        executions = world.database.collection("executions")
        await executions.update_one({"_id": queued.id}, rollback)

    act_around(monkeypatch, "list_owned", after=fail_over)
    await process.work()
    await process.finish_attempts()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.SUCCEEDED
    assert [(a.number, a.outcome) for a in done.attempts] == [(1, "succeeded")]
    assert [d.attempt for d in world.targets.deliveries] == [1]


@pytest.mark.parametrize("max_attempts", [1, 2, 3])
async def test_a_start_whose_response_was_lost_counts_once_for_max_attempts(
    world: World, monkeypatch: pytest.MonkeyPatch, max_attempts: int
) -> None:
    process = world.compose_process()
    retry = RetryPolicy(max_attempts=max_attempts, strategy=RetryStrategy.FIXED, delay_seconds=1)
    queued = await world.queue(await world.add_job(retry=retry))
    world.targets.outcome_of = lambda _: FAILED
    for _ in range(max_attempts):
        assert (await world.read(queued)).status is ExecutionStatus.QUEUED
        with lose_responses(monkeypatch, "start"):
            await process.worker.tick()
        await process.worker.tick()
        await process.finish_attempts()
        world.clock.advance(timedelta(seconds=1))

    done = await world.read(queued)
    assert done.status is ExecutionStatus.FAILED
    assert [a.number for a in done.attempts] == list(range(1, max_attempts + 1))
    assert [d.attempt for d in world.targets.deliveries] == list(range(1, max_attempts + 1))


async def claim_slowly(
    world: World, process: Process, monkeypatch: pytest.MonkeyPatch, *, lose_response: bool
) -> None:
    """Claim; the call takes half of a lease, and its response may be lost."""
    claim = LeaseRepository.claim

    async def respond_late(self: LeaseRepository, slots: Mapping[str, int]) -> Any:
        claimed = await claim(self, slots)
        world.clock.advance(LEASE / 2)
        if lose_response:
            raise UnavailableError("no response")
        return claimed

    with monkeypatch.context() as patched:
        patched.setattr(LeaseRepository, "claim", respond_late)
        if lose_response:
            with pytest.raises(UnavailableError):
                await process.worker.tick()
        else:
            await process.worker.tick()


async def test_a_claim_in_doubt_is_not_started_in_the_last_second_of_its_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease counts from before the request: the database may have claimed at any instant."""
    process = world.compose_process()
    await world.queue(await world.add_job())
    await claim_slowly(world, process, monkeypatch, lose_response=True)
    world.clock.advance(LEASE / 2 - timedelta(seconds=1))
    await process.worker.tick()
    await process.finish_attempts()
    assert world.targets.deliveries == []
    assert process.keeper.list_expiring(within=timedelta(days=1)) == set()
    assert len(process.worker._given_up) == 1


@pytest.mark.parametrize("lose_response", [False, True])
async def test_an_attempt_is_stopped_one_second_before_its_lease_runs_out(
    world: World, monkeypatch: pytest.MonkeyPatch, lose_response: bool
) -> None:
    """The lease counts from before the claim."""
    process = world.compose_process()
    await world.queue(await world.add_job())
    target = block_targets(world)
    await claim_slowly(world, process, monkeypatch, lose_response=lose_response)
    if lose_response:
        await process.worker.tick()
    await target.began.wait()
    world.clock.advance(LEASE / 2 - timedelta(seconds=1))
    await process.worker.guard()
    await eventually(lambda: target.stopped == [1], 1)  # before `finish_attempts` stops it
    await process.finish_attempts()


async def delete_job(world: World, execution: Execution) -> None:
    assert await world.jobs.delete(await world.jobs.get(execution.job_id, owner_id=None))


async def cancel(world: World, execution: Execution) -> None:
    reason = Reason.CANCELLED_BY_USER
    assert await world.executions.request_cancel(execution.id, reason=reason)


@pytest.mark.parametrize(
    ("end", "reason"), [(delete_job, "job_deleted"), (cancel, "cancelled_by_user")]
)
async def test_a_started_execution_that_is_cancelled_before_its_delivery_has_no_open_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch, end: Callable[..., Any], reason: str
) -> None:
    process = world.compose_process()
    queued = await world.queue(await world.add_job())
    with lose_responses(monkeypatch, "start"):
        await process.worker.tick()
    await end(world, queued)
    await process.work()
    await process.finish_attempts()

    assert world.targets.deliveries == []
    ended = await world.read(queued)
    assert (ended.status, ended.reason) == ("cancelled", reason)
    assert [(a.outcome, a.finished_at) for a in ended.attempts] == [
        ("abandoned", world.clock.now())
    ]


async def test_a_claim_whose_lease_runs_out_before_its_cancel_is_left_to_the_reaper(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    queued = await world.queue(await world.add_job())
    await delete_job(world, queued)

    async def expire() -> None:
        world.clock.advance(LEASE)

    act_around(monkeypatch, "settle", before=expire)
    await process.worker.tick()
    assert (await world.read(queued)).status is ExecutionStatus.RUNNING
    assert process.keeper.list_expiring(within=timedelta(days=1)) == set()
    assert len(process.worker._given_up) == 1
    await process.reaper.tick()
    assert (await world.read(queued)).reason is Reason.JOB_DELETED


async def test_a_terminated_execution_is_stopped_and_forgotten(world: World) -> None:
    """Its worker learns it from the next renewal."""
    process = world.compose_process()
    job = await world.add_job()
    running = await world.queue(job, live_for=job.id)
    target = block_targets(world)
    await process.worker.tick()
    await target.began.wait()
    newcomer = running.model_copy(update={"id": world.new_id()})
    await world.overlaps.terminate_live([newcomer])
    terminated = await world.read(running)
    process.keeper._loop = asyncio.get_running_loop()
    process.keeper.renew()
    await eventually(lambda: target.stopped == [1])
    await process.finish_attempts()
    assert len(process.worker._given_up) == 1
    await process.worker.watch()

    assert process.worker._given_up == {}
    assert await world.read(running) == terminated
    assert terminated.status is ExecutionStatus.CANCELLED


async def test_a_lease_that_was_given_up_is_remembered_until_it_is_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then a claim in doubt would start its execution a second time."""
    monkeypatch.setattr("app.engine.worker._BATCH", 2)
    process = world.compose_process()
    job = await world.add_job()
    queued = [await world.queue(job) for _ in range(5)]
    target = block_targets(world)
    for _ in range(3):  # two in each round
        await process.worker.tick()
    await target.began.wait()
    leases = [make_lease(await world.read(execution)) for execution in queued]
    process.worker.stop_lost(leases)
    await process.finish_attempts()
    for _ in range(3):
        await process.worker.watch()
    assert set(process.worker._given_up) == set(leases)

    world.clock.advance(LEASE)
    await process.reaper.tick()
    for remaining in (3, 1, 0, 0):
        await process.worker.watch()
        assert len(process.worker._given_up) == remaining


async def test_a_lost_lease_does_not_stop_a_newer_attempt_of_the_same_execution(
    world: World,
) -> None:
    """The lease keeper reports the loss of the old lease after a new claim by the same process."""
    process = world.compose_process()
    queued = await world.queue(await world.add_job())
    target = block_targets(world)
    await process.worker.tick()
    await target.began.wait()
    old = make_lease(await world.read(queued))
    world.clock.advance(LEASE)
    await process.reaper.tick()
    await process.worker.tick()
    await eventually(lambda: len(world.targets.deliveries) == 2)
    process.worker.stop_lost([old])
    target.may_end.set()
    await process.finish_attempts()

    assert (await world.read(queued)).status is ExecutionStatus.SUCCEEDED
