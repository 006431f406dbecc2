"""Owners take turns, and none takes all slots: the claims of one owner do not stop the others."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from app.engine.loop import AT_ONCE
from app.models.execution import Execution, ExecutionStatus
from app.repositories import queue as queue_module
from app.repositories.documents import SCHEMA_VERSION
from app.repositories.indexes import create_indexes
from app.repositories.queue import DueOwners, QueueRepository
from tests.integration.engine.attempts import BlockedTarget, block_targets
from tests.support.commands import CommandLog
from tests.support.engine import POLL_INTERVAL, Process, World
from tests.support.not_utf_8 import spoil

SECOND = timedelta(seconds=1)

Client = MongoClient[dict[str, Any]]


async def queue_for(world: World, owner_id: str, count: int = 1, **changes: Any) -> Execution:
    """Store `count` due executions of one job of the owner. Returns the first."""
    job = await world.add_job(owner_id=owner_id)
    first = await world.queue(job, **changes)
    await world.executions.insert_many(
        [first.model_copy(update={"id": world.new_id()}) for _ in range(count - 1)]
    )
    return first


async def claim_until_rest(process: Process, *, rounds: int = 20) -> None:
    for _ in range(rounds):
        if await process.worker.tick() != AT_ONCE:
            return
    raise AssertionError("the worker does not rest")


def count_held(*processes: Process) -> Counter[str]:
    """By owner: how many attempts these processes run."""
    running = [a for process in processes for a in process.worker._running.values()]
    return Counter(attempt.execution.owner_id for attempt in running)


async def is_running(world: World, execution: Execution) -> bool:
    return (await world.read(execution)).status is ExecutionStatus.RUNNING


async def test_owners_that_come_one_after_the_other_leave_slots_free(world: World) -> None:
    process = world.compose_process(concurrency=100)
    block_targets(world)
    for n in range(5):
        await queue_for(world, f"attacker {n}", 120)
        await claim_until_rest(process)
    assert sorted(count_held(process).values()) == [1, 1, 1, 10, 80]

    other = await queue_for(world, "zoe")
    await process.worker.tick()

    assert await is_running(world, other)


@pytest.mark.parametrize(("attackers", "most"), [(1, 80), (2, 45), (5, 20)])
async def test_an_owner_starts_in_one_round_while_others_hold_all_they_may(
    world: World, attackers: int, most: int
) -> None:
    process = world.compose_process(concurrency=100)
    block_targets(world)
    for n in range(attackers):
        await queue_for(world, f"attacker {n}", 120)
    await claim_until_rest(process)
    held = count_held(process)
    assert len(held) == attackers
    assert max(held.values()) <= most

    other = await queue_for(world, "zoe")
    await process.worker.tick()

    assert await is_running(world, other)


async def test_an_owner_with_one_execution_starts_in_the_same_round_as_one_with_a_thousand(
    world: World,
) -> None:
    process = world.compose_process(concurrency=100)
    block_targets(world)
    await queue_for(world, "a", 1_000)
    world.clock.advance(SECOND)
    other = await queue_for(world, "b")

    assert await process.worker.tick() == AT_ONCE

    assert await is_running(world, other)
    await claim_until_rest(process)
    assert count_held(process) == {"a": 80, "b": 1}


async def test_the_earliest_executions_of_an_owner_start_first(world: World) -> None:
    process = world.compose_process(concurrency=2)
    block_targets(world)
    job = await world.add_job(owner_id="a")
    now = world.clock.now()
    queued = [await world.queue(job, run_at=now - n * SECOND) for n in range(4)]

    await claim_until_rest(process)

    assert [await is_running(world, e) for e in queued] == [False, False, True, True]


async def test_with_one_slot_the_owners_take_turns(world: World) -> None:
    process = world.compose_process(concurrency=1)
    for owner in ("a", "b", "c"):
        await queue_for(world, owner, 3)

    for _ in range(9):
        assert await process.worker.tick() == AT_ONCE
        await process.finish_attempts()

    assert [d.owner_id for d in world.targets.deliveries] == ["a", "b", "c"] * 3


async def test_an_owner_runs_at_most_as_many_executions_as_it_may_in_all_processes(
    world: World,
) -> None:
    processes = [world.compose_process(max_running_per_owner=30) for _ in range(3)]
    block_targets(world)
    await queue_for(world, "a", 100)
    for process in processes:
        await claim_until_rest(process)
    assert count_held(*processes) == {"a": 30}

    await queue_for(world, "b")
    await claim_until_rest(processes[2])

    assert count_held(*processes) == {"a": 30, "b": 1}


async def test_every_owner_has_its_turn_if_more_are_due_than_one_read_returns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owners with an older backlog do not keep the turn from the others."""
    monkeypatch.setattr(queue_module, "MAX_OWNERS", 3)
    process = world.compose_process(concurrency=2)
    for n in range(10):
        await queue_for(world, f"owner {n}", 5)
        world.clock.advance(SECOND)

    for _ in range(5):
        assert await process.worker.tick() == AT_ONCE
        await process.finish_attempts()
        while len(world.targets.deliveries) % 2:
            assert await process.worker.tick() == AT_ONCE
            await process.finish_attempts()

    assert {d.owner_id for d in world.targets.deliveries} == {f"owner {n}" for n in range(10)}


async def test_owners_that_may_run_no_more_do_not_hide_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "MAX_OWNERS", 2)
    full = world.compose_process(max_running_per_owner=1)
    process = world.compose_process(max_running_per_owner=1)
    block_targets(world)
    for n in range(7):
        await queue_for(world, f"busy {n}", 3)
    await claim_until_rest(full)
    assert count_held(full).total() == 7

    other = await queue_for(world, "zoe")
    await claim_until_rest(process)

    assert await is_running(world, other)
    assert count_held(process) == {"zoe": 1}


async def test_a_worker_rests_while_every_due_owner_is_at_its_share(world: World) -> None:
    process = world.compose_process(concurrency=5)
    block_targets(world)
    await queue_for(world, "a", 9)
    await claim_until_rest(process)
    assert await process.worker.tick() == POLL_INTERVAL

    await queue_for(world, "b", run_at=world.clock.now() + SECOND / 2)

    assert await process.worker.tick() == timedelta(milliseconds=501)


@pytest.mark.parametrize(("concurrency", "most_running"), [(5, 1_000), (100, 4)])
async def test_the_end_of_an_attempt_wakes_a_worker_whose_owners_may_run_no_more(
    world: World, concurrency: int, most_running: int
) -> None:
    process = world.compose_process(concurrency=concurrency, max_running_per_owner=most_running)
    target = block_targets(world)
    await queue_for(world, "a", 5)
    await claim_until_rest(process)
    assert count_held(process) == {"a": 4}
    process.wake.executions.clear()

    await end_all(process, target)

    assert process.wake.executions.is_set()
    await process.work()
    assert len(world.targets.deliveries) == 5


async def test_a_worker_does_not_rest_if_an_attempt_ended_while_it_looked_for_owners(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process(concurrency=5)
    target = block_targets(world)
    await queue_for(world, "a", 5)
    await process.worker.tick()
    assert count_held(process) == {"a": 4}
    read = QueueRepository.list_due_owners

    async def end_after_the_read(self: QueueRepository, *, after: str) -> DueOwners:
        due = await read(self, after=after)
        await end_all(process, target)
        return due

    monkeypatch.setattr(QueueRepository, "list_due_owners", end_after_the_read)

    assert await process.worker.tick() == AT_ONCE


async def end_all(process: Process, target: BlockedTarget) -> None:
    target.may_end.set()
    await process.finish_attempts()


async def test_executions_that_only_a_newer_release_knows_take_no_turn(world: World) -> None:
    process = world.compose_process()
    await queue_for(world, "a")
    await make_newer(world, "a")
    for slots in ({"a": 1}, {"a": 2}):
        assert await process.leases.claim(slots) is None
    await claim_until_rest(process)
    other = await queue_for(world, "b")

    await process.work()

    assert [d.execution_id for d in world.targets.deliveries] == [other.id]


async def test_every_owner_has_a_turn_after_a_claim_before_the_worker_rests(world: World) -> None:
    process = world.compose_process(concurrency=1)
    for owner in ("a", "b", "c"):
        await queue_for(world, owner)
    await make_newer(world, "b", "c")
    assert await process.worker.tick() == AT_ONCE
    await process.finish_attempts()

    assert await process.worker.tick() == AT_ONCE
    assert await process.worker.tick() == POLL_INTERVAL


async def test_every_owner_has_a_turn_between_two_rests(world: World) -> None:
    process = world.compose_process(concurrency=1)
    await queue_for(world, "a")
    await queue_for(world, "c")
    await make_newer(world, "a", "c")
    await claim_until_rest(process)

    other = await queue_for(world, "b")
    await claim_until_rest(process)

    assert await is_running(world, other)


async def make_newer(world: World, *owners: str) -> None:
    """Let a newer release have written the executions of these owners."""
    await world.database.collection("executions").update_many(
        {"owner_id": {"$in": owners}}, {"$set": {"schema": SCHEMA_VERSION + 1}}
    )


NO_TEXT = [None, 7, ["owner"], {"$gt": ""}, b"owner", {"$gt": "xyxyxy"}, "xyxyxy", "axyxyxy"]
"""`spoil` replaces `xyxyxy` by bytes that are not UTF-8."""


@pytest.mark.parametrize("owner_id", NO_TEXT, ids=repr)
async def test_an_execution_whose_owner_is_no_text_ends_and_harms_no_other(
    world: World, mongo_client: Client, database_name: str, owner_id: Any
) -> None:
    process = world.compose_process(concurrency=1)
    odd, *healthy = [await queue_for(world, owner) for owner in ("a", "a", "z", "\ufffd")]
    executions = mongo_client[database_name]["executions"]
    document = executions.find_one({"_id": odd.id})
    assert document is not None
    executions.replace_one({"_id": odd.id}, spoil(document | {"owner_id": owner_id}))

    await process.work()

    assert [d.execution_id for d in world.targets.deliveries] == [e.id for e in healthy]
    stored = executions.find_one({"_id": odd.id}, ["status", "reason"])
    assert stored == {"_id": odd.id, "status": "failed", "reason": "unreadable"}
    # An array makes the index "multikey" for good; other tests use the same database.
    executions.drop_index("claimable_by_owner")
    await create_indexes(world.database)


async def test_executions_whose_owner_is_no_text_end_without_a_read_of_their_contents(
    counted: World, commands: CommandLog
) -> None:
    process = counted.compose_process()
    await queue_for(counted, "a", 5)
    changes = {"owner_id": 7, "parameters": "x" * 100_000}
    executions = counted.database.collection("executions")
    await executions.update_many({}, {"$set": changes})
    commands.clear()

    await process.worker.tick()

    assert max(commands.count_received_bytes()) < 5_000
    assert await executions.count_documents({"status": ExecutionStatus.FAILED}) == 5


async def test_a_claim_takes_at_most_five_round_trips_with_ten_thousand_due_owners(
    counted: World, commands: CommandLog
) -> None:
    process = counted.compose_process(concurrency=100)
    block_targets(counted)
    await queue_owners(counted, 10_000)
    commands.clear()

    turn = await process.worker._turns.grant({}, free=100)
    claimed = await process.leases.claim(turn.slots)

    assert claimed is not None
    assert len({execution.owner_id for execution in claimed}) == 100
    assert commands.count() <= 5


@pytest.mark.parametrize(("due", "round_trips"), [(0, 1), (1, 4), (2, 5)])
async def test_a_round_takes_few_round_trips_if_few_executions_are_due(
    counted: World, commands: CommandLog, due: int, round_trips: int
) -> None:
    process = counted.compose_process()
    block_targets(counted)
    if due:
        await queue_for(counted, "a", due)
    commands.clear()

    turn = await process.worker._turns.grant({}, free=100)
    if turn.slots:
        await process.leases.claim(turn.slots)

    assert commands.count() == round_trips


@pytest.mark.parametrize(("owners", "each"), [(2_000, 1), (1, 500), (10, 50)])
async def test_the_reads_of_a_claim_examine_a_key_for_each_owner_and_each_execution(
    world: World, owners: int, each: int
) -> None:
    process = world.compose_process(concurrency=100)
    await queue_owners(world, owners, each)
    database = world.database.collection("executions").database
    await database.command({"profile": 2})

    turn = await process.worker._turns.grant({}, free=100)
    claimed = await process.leases.claim(turn.slots)
    await database.command({"profile": 0})

    assert claimed is not None
    reads = {"op": "command", "command.aggregate": {"$exists": True}}
    profiled = await database["system.profile"].find(reads).to_list(None)
    await database.drop_collection("system.profile")
    keys = sum(read.get("keysExamined", 0) for read in profiled)
    assert len(profiled) == 3
    assert keys <= 2 * (owners + len(claimed))


async def queue_owners(world: World, owners: int, each: int = 1) -> None:
    """Store due executions of many owners. Some also have a history, and one that runs."""
    template = await queue_for(world, "owner 0")
    ended = {"status": ExecutionStatus.SUCCEEDED, "finished_at": world.clock.now()}
    records = [
        template.model_copy(update={"id": world.new_id(), "owner_id": f"owner {n}"} | changes)
        for changes in [*[{}] * each, ended]
        for n in range(owners)
    ]
    await world.executions.insert_many(records[1:])


async def test_a_grant_is_of_at_most_one_batch_of_a_claim(world: World) -> None:
    process = world.compose_process(concurrency=1_000)
    await queue_for(world, "a")
    turn = await process.worker._turns.grant({}, free=1_000)
    assert turn.slots == {"a": 500}


async def test_the_next_turn_is_that_of_the_owner_after_the_last_one_that_was_given_a_slot(
    world: World,
) -> None:
    turns = world.compose_process(concurrency=5).worker._turns
    await queue_owners(world, 3, 3)
    assert (await turns.grant({}, free=4)).slots == {"owner 0": 2, "owner 1": 1, "owner 2": 1}
    assert (await turns.grant({}, free=1)).slots == {"owner 1": 1}


async def test_the_turns_that_are_left_of_a_long_read_are_given_without_another_read(
    counted: World, commands: CommandLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "MAX_OWNERS", 4)
    process = counted.compose_process()
    await queue_owners(counted, 8)
    turns = process.worker._turns
    commands.clear()
    given = [list((await turns.grant({}, free=2)).slots) for _ in range(4)]
    assert given == [[f"owner {n}", f"owner {n + 1}"] for n in (0, 2, 4, 6)]
    assert commands.count() == 4 + 2  # a count for each turn, and a read for each four owners

    await turns.grant({}, free=1)
    commands.clear()
    counted.clock.advance(2 * POLL_INTERVAL)
    await turns.grant({}, free=1)
    assert commands.count() == 2  # what was read is too old


@pytest.mark.parametrize("slots", [1, 10])
async def test_owners_that_may_run_no_more_are_passed_by_hundreds_in_a_round(
    counted: World, commands: CommandLog, slots: int
) -> None:
    process = counted.compose_process(concurrency=slots, max_running_per_owner=1)
    block_targets(counted)
    await queue_owners(counted, 900)
    executions = counted.database.collection("executions")
    running = {"status": ExecutionStatus.RUNNING, "lease_owner": "another process"}
    await executions.update_many({"status": ExecutionStatus.QUEUED}, {"$set": running})
    await queue_owners(counted, 900)
    other = await queue_for(counted, "zoe")
    commands.clear()

    assert await process.worker.tick() == AT_ONCE
    assert commands.count() == 2
    turn = await process.worker._turns.grant({}, free=slots)
    claimed = await process.leases.claim(turn.slots) or []

    assert [execution.id for execution in claimed] == [other.id]
    assert commands.count() <= 2 + 5
