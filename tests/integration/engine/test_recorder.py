"""The recorder: each caller gets a result or an exception, whatever fails."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from app.engine.recorder import Recorder
from app.errors import UnavailableError
from app.models.execution import Execution, ExecutionStatus
from app.repositories.leases import LeaseRepository
from app.services.completion import Completion
from tests.integration.engine.attempts import make_success
from tests.support.engine import Process, World, claim_due
from tests.support.waiting import run_other_tasks


def get_recorder(process: Process) -> Recorder:
    return process.worker._recorder


async def queue_and_claim(world: World, process: Process, count: int) -> list[Execution]:
    for _ in range(count):
        await world.queue(await world.add_job())
    return await claim_due(process.leases, limit=count)


async def settle_in_two_batches(
    recorder: Recorder, first: Execution, others: Sequence[Execution]
) -> list[bool | BaseException]:
    """Settle `first`, and `others` while the first write runs. Return each result or exception."""
    tasks = [asyncio.create_task(recorder.settle(first, make_success(first)))]
    await run_other_tasks(2)
    tasks += [asyncio.create_task(recorder.settle(e, make_success(e))) for e in others]
    async with asyncio.timeout(10):
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("error", [UnavailableError("outage"), RuntimeError("a bug"), ValueError()])
async def test_a_failure_of_the_follow_up_leaves_no_caller_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    process = world.compose_process()
    first, *others = await queue_and_claim(world, process, 4)

    async def fail(self: Completion, ended: object) -> None:
        raise error

    monkeypatch.setattr(Completion, "follow_up", fail)
    assert await settle_in_two_batches(get_recorder(process), first, others) == [True] * 4
    for execution in (first, *others):
        assert (await world.read(execution)).status is ExecutionStatus.SUCCEEDED
    await asyncio.wait_for(get_recorder(process).finish(), 5)


async def test_a_bug_in_one_batch_leaves_no_caller_of_the_next_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    first, *others = await queue_and_claim(world, process, 3)
    bug, write, calls = RuntimeError("a bug"), Recorder._write_batch, 0

    async def fail_once(self: Recorder, batch: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await run_other_tasks(2)
            raise bug
        await write(self, batch)

    monkeypatch.setattr(Recorder, "_write_batch", fail_once)
    results = await settle_in_two_batches(get_recorder(process), first, others)
    assert results == [bug, True, True]


@pytest.mark.parametrize("error", [UnavailableError("outage"), RuntimeError("a bug")])
async def test_a_failed_write_is_the_failure_of_its_batch_only(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    process = world.compose_process()
    first, *others = await queue_and_claim(world, process, 3)
    settle, calls = LeaseRepository.settle, 0

    async def fail_once(self: LeaseRepository, settlements: Any) -> list[bool]:
        nonlocal calls
        calls += 1
        if calls == 1:
            await run_other_tasks(2)
            raise error
        return await settle(self, settlements)

    monkeypatch.setattr(LeaseRepository, "settle", fail_once)
    results = await settle_in_two_batches(get_recorder(process), first, others)
    assert results == [error, True, True]


async def test_a_write_with_too_few_results_raises_value_error_for_each_caller(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    first, *others = await queue_and_claim(world, process, 2)

    async def settle_none(self: LeaseRepository, settlements: Any) -> list[bool]:
        return []

    monkeypatch.setattr(LeaseRepository, "settle", settle_none)
    results = await settle_in_two_batches(get_recorder(process), first, others)
    assert [type(result) for result in results] == [ValueError, ValueError]


async def test_a_cancelled_caller_does_not_disturb_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    first, second = await queue_and_claim(world, process, 2)
    settle, may_write = LeaseRepository.settle, asyncio.Event()

    async def settle_later(self: LeaseRepository, settlements: Any) -> list[bool]:
        await may_write.wait()
        return await settle(self, settlements)

    monkeypatch.setattr(LeaseRepository, "settle", settle_later)
    recorder = get_recorder(process)
    cancelled = asyncio.create_task(recorder.settle(first, make_success(first)))
    other = asyncio.create_task(recorder.settle(second, make_success(second)))
    await run_other_tasks(2)
    cancelled.cancel()
    may_write.set()
    assert await asyncio.wait_for(other, 5) is True
    assert (await world.read(first)).status is ExecutionStatus.SUCCEEDED


async def test_a_cancelled_writer_releases_its_callers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    first, second = await queue_and_claim(world, process, 2)

    async def never(self: LeaseRepository, settlements: Any) -> list[bool]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(LeaseRepository, "settle", never)
    recorder = get_recorder(process)
    tasks = [asyncio.create_task(recorder.settle(first, make_success(first)))]
    await run_other_tasks(2)
    tasks.append(asyncio.create_task(recorder.settle(second, make_success(second))))
    await run_other_tasks(2)
    assert recorder._writing is not None
    recorder._writing.cancel()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2
