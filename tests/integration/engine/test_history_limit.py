"""Response headers and bodies are stored up to a limit per owner, executions always."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from bson import Decimal128, Int64

from app.engine.history_limit import HistoryLimit
from app.errors import UnavailableError
from app.models.execution import ExecutionStatus, TargetResponse, Truncation
from app.models.policy import RetryPolicy
from app.repositories.leases import AttemptStart
from app.repositories.settlements import Settlement
from app.repositories.stored_responses import StoredResponseRepository
from tests.integration.engine.attempts import block_targets, fail_settlements, make_lease
from tests.integration.engine.responses import (
    execute,
    get_trimmer,
    has_body,
    respond,
    store_history,
    store_sizes,
    trim,
)
from tests.support.engine import Process, World, claim_due

MEGABYTE = 1_000_000
SECOND = timedelta(seconds=1)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The owners of each read of their sums."""
    reads: list[list[str]] = []
    sum_bytes = StoredResponseRepository.sum_bytes

    async def note(self: StoredResponseRepository, owner_ids: Sequence[str]) -> dict[str, int]:
        reads.append(list(owner_ids))
        return await sum_bytes(self, owner_ids)

    monkeypatch.setattr(StoredResponseRepository, "sum_bytes", note)
    return reads


def get_limit(process: Process) -> HistoryLimit:
    limit = process.runtime.engine.history_limit
    assert limit is not None
    return limit


async def let_pass(world: World, limit: HistoryLimit, seconds: int) -> None:
    for _ in range(seconds):
        world.clock.advance(SECOND)
        await limit.tick()


async def test_beyond_the_limit_executions_are_stored_without_their_responses(world: World) -> None:
    process = world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE)
    limit = get_limit(process)
    job = await world.add_job(retry=RetryPolicy(max_attempts=1))
    await store_sizes(world, job, 9_990_000)
    other = await world.add_job(owner_id="another owner")
    (first,) = await execute(world, process, job, 1, body="x" * 60_000)
    await limit.tick()
    (second,) = await execute(world, process, job, 1, body="x" * 60_000, status=500)
    (of_other,) = await execute(world, process, other, 1, body="x" * 60_000)
    assert has_body((await world.read(first)).attempts[0].response)
    read = await world.read(second)
    assert read.status is ExecutionStatus.FAILED
    assert read.attempts[0].response == TargetResponse(
        status=500, truncated=True, truncated_reason=Truncation.HISTORY_LIMIT
    )
    assert has_body((await world.read(of_other)).attempts[0].response)


async def test_responses_are_stored_again_after_others_were_removed(world: World) -> None:
    process = world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE)
    limit = get_limit(process)
    job = await world.add_job()
    await store_sizes(world, job, 10 * MEGABYTE)
    await execute(world, process, job, 1)
    await limit.tick()
    (refused,) = await execute(world, process, job, 1)
    await world.database.collection("executions").delete_one({"_id": f"{job.id}-000000"})
    world.clock.advance(timedelta(seconds=31))
    await limit.tick()
    (stored,) = await execute(world, process, job, 1)
    assert not has_body((await world.read(refused)).attempts[0].response)
    assert has_body((await world.read(stored)).attempts[0].response)


async def test_responses_are_stored_half_a_minute_after_removals_also_if_nothing_ended_meanwhile(
    world: World,
) -> None:
    process = world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE)
    job = await world.add_job()
    await store_sizes(world, job, 10 * MEGABYTE)
    await execute(world, process, job, 1)
    await let_pass(world, get_limit(process), 60)
    await world.database.collection("executions").delete_one({"_id": f"{job.id}-000000"})
    await let_pass(world, get_limit(process), 30)
    (stored,) = await execute(world, process, job, 1)
    assert has_body((await world.read(stored)).attempts[0].response)


async def test_rare_bursts_of_an_owner_at_the_limit_do_not_add_up(world: World) -> None:
    process = world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE)
    responses = StoredResponseRepository(world.database)
    await store_sizes(world, await world.add_job(), 10 * MEGABYTE)
    jobs = [await world.add_job() for _ in range(12)]
    target = block_targets(world, respond("x" * 60_000))
    sizes = []
    for _ in range(4):
        target.may_end.clear()
        for job in jobs:
            await world.queue(job)
        await process.worker.tick()
        target.may_end.set()
        await process.finish_attempts()
        await let_pass(world, get_limit(process), 3_600)
        sizes.append((await responses.sum_bytes(["owner"]))["owner"])
    assert sizes[0] <= 10 * MEGABYTE * 17 // 16
    assert sizes == [sizes[0]] * 4


async def test_owners_far_from_the_limit_are_read_only_after_responses(
    world: World, reads: list[list[str]]
) -> None:
    process = world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE)
    limit = get_limit(process)
    await store_sizes(world, await world.add_job(owner_id="full"), 9_400_000)
    await store_sizes(world, await world.add_job(owner_id="far"), 9_300_000)
    for owner_id in ("full", "far"):
        assert limit.take(owner_id, 1)
    await let_pass(world, limit, 95)
    assert reads == [["full", "far"], ["full"], ["full"], ["full"]]
    assert limit.take("far", 1)
    await let_pass(world, limit, 1)
    assert reads[4:] == [["far"]]


async def test_a_sum_that_has_grown_since_the_last_read_is_read_again(
    world: World, reads: list[list[str]]
) -> None:
    limit = get_limit(world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE))
    assert limit.take("owner", 1)
    await let_pass(world, limit, 1)
    assert limit.take("owner", 1)
    await let_pass(world, limit, 95)
    assert reads == [["owner"]] * 2


async def test_what_is_stored_during_a_read_counts_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = get_limit(world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE))
    began, may_end = asyncio.Event(), asyncio.Event()
    sum_bytes = StoredResponseRepository.sum_bytes

    async def wait(self: StoredResponseRepository, owner_ids: Sequence[str]) -> dict[str, int]:
        sizes = await sum_bytes(self, owner_ids)
        began.set()
        await may_end.wait()
        return sizes

    monkeypatch.setattr(StoredResponseRepository, "sum_bytes", wait)
    assert limit.take("owner", 100_000)
    reading = asyncio.create_task(limit.tick())
    await asyncio.wait_for(began.wait(), 5)
    assert limit.take("owner", 400_000)
    may_end.set()
    await reading
    assert not limit.take("owner", 400_000)  # 1/16 of 10 MB is 625,000
    assert limit.take("owner", 200_000)


async def test_several_processes_exceed_the_limit_by_a_64th_each(world: World) -> None:
    """Also with trims in between, and if no process reads the size of what the others store."""
    limit, share = 10 * MEGABYTE, 10 * MEGABYTE // 64
    processes = [
        world.compose_process(max_history_bytes_per_owner=limit, concurrency=10) for _ in range(3)
    ]
    jobs = [await world.add_job() for _ in range(6)]
    world.targets.outcome_of = lambda _: respond("x" * 20_000)
    responses = StoredResponseRepository(world.database)
    most = 0
    for round_number in range(60):
        for job in jobs * 3:
            await world.queue(job)
        world.clock.advance(timedelta(seconds=2))
        for process in processes:
            history_limit = get_limit(process)
            if history_limit.wake.is_set() or round_number % 15 == 0:
                history_limit.wake.clear()
                await history_limit.tick()
            await process.worker.tick()
        for process in processes:
            await process.finish_attempts()
        most = max(most, (await responses.sum_bytes(["owner"]))["owner"])
        if round_number % 45 == 44:
            for process in processes:
                await trim(world, get_trimmer(process))
    assert most > limit * 0.9
    assert most <= limit + len(processes) * share
    assert (await responses.sum_bytes(["owner"]))["owner"] < limit
    documents = world.database.collection("executions")
    assert await documents.count_documents({"status": "succeeded"}) == 60 * 18


async def test_a_result_that_is_recorded_again_counts_once(world: World) -> None:
    process = world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE)
    limit = get_limit(process)
    for _ in range(20):
        assert limit.take("owner", 600_000)
        limit.give_back("owner", 600_000)
    assert limit.take("owner", 600_000)
    assert not limit.take("owner", 600_000)


@pytest.mark.parametrize(
    "size",
    [Decimal128("5"), Decimal128("Infinity"), float("inf"), 1e308, Int64(2**63 - 1)],
    ids=str,
)
async def test_a_malformed_size_of_an_execution_harms_no_result(
    world: World, size: Decimal128 | float
) -> None:
    process = world.compose_process()
    limit = get_limit(process)
    odd, other = await world.add_job(owner_id="odd"), await world.add_job(owner_id="other")
    await store_history(world, odd, 2)
    stored = world.database.collection("executions")
    await stored.update_many({"owner_id": "odd"}, {"$set": {"response_bytes": size}})
    await execute(world, process, odd, 1)
    await limit.tick()
    executions = [await world.queue(job) for job in (odd, other)]
    await process.work()
    read = [await world.read(execution) for execution in executions]
    assert [one.status for one in read] == [ExecutionStatus.SUCCEEDED] * 2
    assert has_body(read[1].attempts[0].response)


async def test_a_failure_of_the_limit_costs_only_the_response_with_which_it_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    take = HistoryLimit.take

    def fail(self: HistoryLimit, owner_id: str, size: int) -> bool:
        if owner_id == "odd":
            raise TypeError("a bug")
        return take(self, owner_id, size)

    monkeypatch.setattr(HistoryLimit, "take", fail)
    world.targets.outcome_of = lambda _: respond("a body")
    owners = ["other", "odd", "another"]
    executions = [await world.queue(await world.add_job(owner_id=owner)) for owner in owners]
    await process.work()
    read = [await world.read(execution) for execution in executions]
    assert [one.status for one in read] == [ExecutionStatus.SUCCEEDED] * 3
    assert [has_body(one.attempts[0].response) for one in read] == [True, False, True]


async def test_results_that_an_outage_keeps_from_the_database_leave_room_for_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE)
    await world.queue(await world.add_job())
    (execution,) = await claim_due(process.leases, limit=1)
    lease, recorder = make_lease(execution), process.worker._recorder
    assert await process.leases.start([AttemptStart(lease, 1, 1)]) == [True]
    settlement = Settlement(lease, ExecutionStatus.SUCCEEDED, 1, respond("x" * 60_000))
    fail_settlements(monkeypatch, 20)
    for _ in range(20):
        with pytest.raises(UnavailableError):
            await recorder.settle(execution, settlement)
    assert await recorder.settle(execution, settlement)
    assert has_body((await world.read(execution)).attempts[0].response)
