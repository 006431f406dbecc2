"""Batches of results: their size, and one result among many that the database rejects."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from app.errors import UnavailableError
from app.models.execution import AttemptOutcome, Execution, TargetResponse, Truncation
from app.models.outcome import Outcome
from app.models.policy import OverlapPolicy
from app.repositories.leases import LeaseRepository
from app.repositories.settlements import Settlement
from app.targets.target import Delivery
from tests.integration.engine.attempts import fail_settlements
from tests.support.engine import Process, World
from tests.support.statements import list_searched, record_writes

MEGABYTE = 1_000_000
NOT_STORABLE = "\ud800"  # half of a surrogate pair: no UTF-8, so no BSON


async def queue_many(world: World, count: int) -> list[Execution]:
    job = await world.add_job(overlap_policy=OverlapPolicy.ALLOW_ALL)
    return [await world.queue(job) for _ in range(count)]


def respond_at_once(world: World, count: int, body_of: Callable[[Delivery], str]) -> None:
    """Let all deliveries succeed at the same instant, when there are `count` of them."""
    all_began = asyncio.Event()

    async def respond(delivery: Delivery) -> Outcome:
        if len(world.targets.deliveries) == count:
            all_began.set()
        await all_began.wait()
        response = TargetResponse(status=200, headers={"a": "b"}, body=body_of(delivery))
        return Outcome(AttemptOutcome.SUCCEEDED, response=response)

    world.targets.outcome_of = respond


async def run_all(process: Process) -> None:
    await process.worker.tick()
    await process.worker.drain(timedelta(seconds=30))


@pytest.mark.parametrize(
    ("count", "body"),
    [(300, "x" * 65_536), (100, "😀" * 65_536), (100, "\x01" * 65_536)],
    ids=["64 KB", "4 bytes a character", "control characters"],
)
async def test_large_responses_of_many_attempts_are_recorded(
    world: World, count: int, body: str
) -> None:
    """Together they exceed the 16 MB that MongoDB accepts as one statement."""
    process = world.compose_process(concurrency=2 * count)
    queued = await queue_many(world, count)
    respond_at_once(world, count, lambda _: body)
    recorded = record_writes(process.leases)
    await run_all(process)

    history = [await world.read(execution) for execution in queued]
    assert {(e.status, len(e.attempts)) for e in history} == {("succeeded", 1)}
    assert {e.attempts[0].response and e.attempts[0].response.body for e in history} == {body}
    assert len(world.targets.deliveries) == count
    total = count * len(body.encode())
    sizes = recorded.count_bytes()
    assert max(sizes) < 9 * MEGABYTE
    assert len(sizes) < 5 + total // (4 * MEGABYTE)


async def test_a_response_that_cannot_be_stored_harms_no_other_result(world: World) -> None:
    process = world.compose_process(concurrency=200)
    odd, *others = await queue_many(world, 100)
    bodies = {odd.id: NOT_STORABLE}
    respond_at_once(world, 100, lambda delivery: bodies.get(delivery.execution_id, "text"))
    recorded = record_writes(process.leases)
    await run_all(process)

    ended = await world.read(odd)
    assert (ended.status, len(ended.attempts)) == ("succeeded", 1)
    assert ended.attempts[0].response == TargetResponse(
        status=200, truncated=True, truncated_reason=Truncation.TOO_LARGE
    )
    for execution in others:
        response = (await world.read(execution)).attempts[0].response
        assert response is not None
        assert (response.body, response.truncated) == ("text", False)
    assert len(world.targets.deliveries) == 100
    assert len(recorded.writes) < 25  # the claim, the start, and 2 for each of 7 divisions


async def test_an_outage_while_a_rejected_batch_is_divided_loses_no_result(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    queued = await queue_many(world, 20)
    odd = queued[13].id
    respond_at_once(world, 20, lambda _: "text")
    settle, calls = LeaseRepository.settle, 0

    async def reject_or_fail(self: LeaseRepository, settlements: Any) -> list[bool]:
        nonlocal calls
        calls += 1
        if calls in {3, 4}:
            raise UnavailableError("no primary")
        if any(_has_body(one, odd) for one in settlements):
            raise OperationFailure("rejected", code=2)
        return await settle(self, settlements)

    monkeypatch.setattr(LeaseRepository, "settle", reject_or_fail)
    monkeypatch.setattr("app.engine.executor._SETTLE_RETRY_INTERVAL", timedelta(0))
    await run_all(process)

    assert calls > 6
    history = [await world.read(execution) for execution in queued]
    assert {(e.status, len(e.attempts)) for e in history} == {("succeeded", 1)}
    responses = {e.id: e.attempts[0].response for e in history}
    assert [id_ for id_, one in responses.items() if one is not None and one.truncated] == [odd]
    assert len(world.targets.deliveries) == 20


async def test_an_outage_neither_divides_a_batch_nor_removes_a_response(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    queued = await queue_many(world, 8)
    respond_at_once(world, 8, lambda _: "text")
    fail_settlements(monkeypatch, 6)
    monkeypatch.setattr("app.engine.executor._SETTLE_RETRY_INTERVAL", timedelta(0))
    await run_all(process)

    for execution in queued:
        response = (await world.read(execution)).attempts[0].response
        assert response is not None
        assert (response.body, response.truncated) == ("text", False)


async def test_a_result_that_is_larger_than_a_batch_is_recorded(world: World) -> None:
    process = world.compose_process()
    queued = await queue_many(world, 2)
    respond_at_once(world, 2, lambda _: "x" * 9 * MEGABYTE)
    await run_all(process)
    history = [await world.read(execution) for execution in queued]
    assert [e.status for e in history] == ["succeeded", "succeeded"]


def _has_body(settlement: Settlement, execution_id: str) -> bool:
    response = settlement.outcome.response if settlement.outcome else None
    return settlement.lease.execution_id == execution_id and bool(response and response.body)


async def test_500_results_are_written_by_one_statement_that_searches_each_list_once(
    world: World,
) -> None:
    process = world.compose_process(concurrency=1_000)
    await queue_many(world, 500)
    respond_at_once(world, 500, lambda _: "text")
    recorded = record_writes(process.leases)
    await run_all(process)

    claim, start, settle = recorded.writes
    assert list_searched(claim) == []
    assert list_searched(start) == [500] * 2  # the number and the revision
    assert list_searched(settle) == [500]
