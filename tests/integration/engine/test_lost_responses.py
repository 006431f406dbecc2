"""A worker whose calls of the database fail, or whose responses are lost or late."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from app.errors import UnavailableError
from app.models.execution import Execution, ExecutionStatus, Reason
from app.repositories.leases import LeaseRepository
from tests.integration.engine.attempts import block_targets, lose_responses, make_lease
from tests.support.engine import LEASE, SUCCEEDED, World
from tests.support.waiting import eventually, run_other_tasks


async def test_after_a_lost_response_to_a_claim_the_execution_is_delivered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
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
    process = world.compose_process()
    job = await world.add_job()
    target = block_targets(world)
    first = await world.queue(job)
    await process.worker.tick()
    await world.queue(job)
    list_owned = LeaseRepository.list_owned

    async def list_slowly(self: LeaseRepository) -> list[Execution]:
        found = await list_owned(self)
        target.may_end.set()
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
    process = world.compose_process()
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
    process = world.compose_process()
    job = await world.add_job()
    discarded = await world.queue(job)
    target = block_targets(world)
    await process.worker.tick()
    await target.began.wait()
    process.worker.stop_lost([make_lease(await world.read(discarded))])
    await process.finish_attempts()
    # After an error in a claim, the worker reads the executions that it has claimed.
    await world.queue(job)
    with monkeypatch.context() as patched:
        patched.setattr(LeaseRepository, "claim", _raise_unavailable)
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
    process = world.compose_process()
    job = await world.add_job()
    queued = await world.queue(job)
    claim = LeaseRepository.claim

    async def claim_slowly(self: LeaseRepository, slots: Mapping[str, int]) -> Any:
        claimed = await claim(self, slots)
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


async def _raise_unavailable(*_: object, **__: object) -> None:
    raise UnavailableError("no primary")


async def test_a_worker_that_claims_an_execution_again_stops_its_older_attempt(
    world: World,
) -> None:
    """The old lease has expired. The worker stops the old attempt and can cancel the new one."""
    process = world.compose_process()
    job = await world.add_job()
    queued = await world.queue(job)
    target = block_targets(world)
    await process.worker.tick()
    await run_other_tasks()
    world.clock.advance(LEASE)
    await process.reaper.tick()
    await process.worker.tick()
    await eventually(lambda: target.stopped == [1])
    assert await world.executions.request_cancel(queued.id, reason=Reason.CANCELLED_BY_USER)
    await process.worker.watch()
    await process.finish_attempts()

    assert target.stopped == [1, 2]
    done = await world.read(queued)
    assert done.status is ExecutionStatus.CANCELLED
    assert [a.outcome for a in done.attempts] == ["abandoned", "cancelled"]


async def test_a_result_is_recorded_after_a_short_outage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
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


async def test_a_cancelled_attempt_whose_lease_is_lost_during_an_outage_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    queued = await world.queue(await world.add_job())
    target = block_targets(world)
    await process.worker.tick()
    await target.began.wait()
    assert await world.executions.request_cancel(queued.id, reason=Reason.CANCELLED_BY_USER)
    monkeypatch.setattr(LeaseRepository, "settle", _raise_unavailable)
    monkeypatch.setattr("app.engine.executor._SETTLE_RETRY_INTERVAL", timedelta(0))
    await process.worker.watch()
    await eventually(lambda: target.stopped == [1])
    assert process.worker._tasks  # it tries to record the cancel
    world.clock.advance(LEASE)
    await process.worker.guard()
    await eventually(lambda: not process.worker._tasks)
