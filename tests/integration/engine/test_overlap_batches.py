"""Overlap policies of many executions at once."""

import random

import pytest

from app.models.policy import OverlapPolicy
from app.repositories.executions import InsertResult
from app.repositories.indexes import create_indexes
from app.repositories.slot_records import build_conditions, key_of
from app.services.admission import Candidate
from tests.integration.engine.overlaps import (
    ASKED,
    FULL,
    POLICIES,
    QUEUED,
    REPLACED,
    RUNNING,
    SKIPPED,
    TERMINATED,
    WAITING,
    add_live,
    end_live,
    list_records,
    make_overlapping,
    make_slot,
    name_jobs,
)
from tests.support.commands import CommandLog
from tests.support.engine import World


def list_names(commands: CommandLog) -> list[str]:
    return [name for name, _ in commands.commands]


async def count_commands(
    world: World, commands: CommandLog, policy: OverlapPolicy, jobs: list[str], running: bool
) -> list[str]:
    """Apply the policy to two slots of each job. Return the names of the commands."""
    await add_live(world, jobs, running=running)
    batch = [make_overlapping(world, job, minute, policy) for job in jobs for minute in (1, 2)]
    commands.clear()
    records = await world.admission.apply_policies(batch, world.clock.now())
    names = list_names(commands)
    assert records.keys() == {one.execution.id for one in batch}
    return names


@pytest.mark.parametrize("running", [True, False], ids=["running", "queued"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_the_number_of_round_trips_does_not_depend_on_the_number_of_jobs(
    counted: World, commands: CommandLog, policy: OverlapPolicy, running: bool
) -> None:
    one = await count_commands(counted, commands, policy, ["a job"], running)
    many = await count_commands(counted, commands, policy, name_jobs(200), running)

    assert many == one
    assert len(one) <= 9
    expected = await list_records(counted, "a job")
    for job in name_jobs(200):
        assert await list_records(counted, job) == expected


async def test_the_number_of_round_trips_does_not_depend_on_the_number_of_slots(
    counted: World, commands: CommandLog
) -> None:
    counts = []
    for slots in (1, 1_000):
        job = f"a job with {slots}"
        await add_live(counted, [job])
        policy = OverlapPolicy.SKIP
        batch = [make_overlapping(counted, job, 1 + n, policy, 1_000) for n in range(slots)]
        commands.clear()
        await counted.admission.apply_policies(batch, counted.clock.now())
        counts.append(list_names(commands))
        assert await list_records(counted, job) == [RUNNING] + [WAITING] * slots
    assert counts[0] == counts[1]


async def test_a_batch_of_all_policies_treats_each_job_by_its_own(world: World) -> None:
    batch = []
    for policy in POLICIES:
        await add_live(world, [policy])
        batch += [make_overlapping(world, policy, minute, policy) for minute in (3, 1, 2)]

    records = await world.admission.apply_policies(batch, world.clock.now())

    assert {policy: await list_records(world, policy) for policy in POLICIES} == {
        OverlapPolicy.SKIP: [RUNNING, SKIPPED, SKIPPED, SKIPPED],
        OverlapPolicy.BUFFER_ONE: [RUNNING, WAITING, FULL, FULL],
        OverlapPolicy.BUFFER_ALL: [RUNNING, WAITING, WAITING, WAITING],
        OverlapPolicy.CANCEL_OTHER: [ASKED, REPLACED, REPLACED, WAITING],
        OverlapPolicy.TERMINATE_OTHER: [TERMINATED, TERMINATED, TERMINATED, QUEUED],
    }
    for one in batch:
        assert records[one.execution.id] == await world.read(one.execution)


async def test_cancelled_slots_behind_a_queued_execution_did_not_wait(world: World) -> None:
    await add_live(world, ["a job"], running=False)
    policy = OverlapPolicy.CANCEL_OTHER
    batch = [make_overlapping(world, "a job", minute, policy) for minute in (1, 2, 3)]
    await world.admission.apply_policies(batch, world.clock.now())

    cancelled = ("cancelled", "cancelled_by_overlap", False)
    assert await list_records(world, "a job") == [cancelled, cancelled, cancelled, QUEUED]


@pytest.mark.parametrize(
    "policy", [OverlapPolicy.SKIP, OverlapPolicy.BUFFER_ONE, OverlapPolicy.BUFFER_ALL]
)
async def test_late_slots_wait_where_they_have_positions_of_their_own(
    world: World, policy: OverlapPolicy
) -> None:
    await add_live(world, ["a job"])
    late = [make_overlapping(world, "a job", 1 + n, policy, 150) for n in range(151)]
    on_time = [make_overlapping(world, "a job", 200, policy)]
    await world.admission.apply_policies([*on_time, *late], world.clock.now())

    skipped = SKIPPED if policy is OverlapPolicy.SKIP else FULL
    assert await list_records(world, "a job") == [RUNNING, *[WAITING] * 150, FULL, skipped]


async def test_late_slots_are_promoted_in_the_order_of_their_slots(world: World) -> None:
    await add_live(world, ["a job"])
    batch = [
        make_overlapping(world, "a job", minute, OverlapPolicy.SKIP, 1_000)
        for minute in random.Random(1).sample(range(1, 31), 30)
    ]
    await world.admission.apply_policies(batch, world.clock.now())

    order = []
    for _ in batch:
        await end_live(world, "a job")
        await world.promotions.promote(["a job"])
        live = await world.database.collection("executions").find_one({"live_for": "a job"})
        assert live is not None
        order.append(live["scheduled_for"])
    assert order == sorted(one.execution.scheduled_for for one in batch)


async def test_a_slot_has_a_record_also_if_the_server_reports_another_index(
    counted: World,
) -> None:
    """The server reports the first violated index, which is not the slot index here."""
    await counted.database.collection("executions").drop_index("slot")
    await create_indexes(counted.database)
    live, other_slot = (make_slot(counted, "a job", minute) for minute in (1, 2))
    waiting, another_slot = (make_slot(counted, "a job", minute).wait_at(0) for minute in (3, 4))
    await counted.executions.insert_many([live, waiting])
    again = [
        e.model_copy(update={"id": counted.new_id()})
        for e in (live, other_slot, waiting, another_slot)
    ]
    assert await counted.executions.insert_many(again) == [
        InsertResult.ALREADY_RECORDED,
        InsertResult.OVERLAP,
        InsertResult.ALREADY_RECORDED,
        InsertResult.FULL,
    ]


@pytest.mark.parametrize("jobs", [1, 1_000])
async def test_one_small_query_finds_the_slots_that_others_recorded(
    counted: World, commands: CommandLog, jobs: int
) -> None:
    """1,000 slots of one schedule, or one slot of each of 1,000. Every other one is recorded.

    The server reports the first violated index, which is not the slot index here.
    """
    collection = counted.database.collection("executions")
    await collection.drop_index("slot")
    await create_indexes(counted.database)
    new = [make_slot(counted, f"job {n % jobs}", 1 + n // jobs) for n in range(1_000)]
    others = [e.model_copy(update={"id": counted.new_id()}).wait_at(n) for n, e in enumerate(new)]
    await add_live(counted, [f"job {n}" for n in range(jobs)])
    await counted.executions.insert_many(others[::2])
    commands.clear()
    results = await counted.executions.insert_many(new)

    assert results == [InsertResult.ALREADY_RECORDED, InsertResult.OVERLAP] * 500
    assert list_names(commands) == ["insert", "find"]
    keys = [key_of(e) for e in new]
    assert len(build_conditions(keys)) == 1


async def test_a_huge_insert_is_cut_into_statements_of_1000(
    counted: World, commands: CommandLog
) -> None:
    new = [make_slot(counted, f"job {n}", 1) for n in range(2_001)]
    commands.clear()
    results = await counted.executions.insert_many(new)
    assert results == [InsertResult.INSERTED] * 2_001
    assert list_names(commands) == ["insert"] * 3


@pytest.mark.parametrize("seed", range(20))
async def test_a_batch_has_the_result_of_one_after_the_other(world: World, seed: int) -> None:
    """Two groups of jobs are equal. One gets its slots in one batch, the other one by one."""
    chosen = random.Random(seed)
    batch: list[Candidate] = []
    alone: list[Candidate] = []
    for n in range(8):
        policy = chosen.choice(POLICIES)
        running = chosen.random() < 0.5
        free = policy is OverlapPolicy.CANCEL_OTHER and not running
        places = [] if free else chosen.sample([0, 1, 50], chosen.choice([0, 0, 1, 2]))
        minutes = chosen.sample(range(1, 20), 2 + len(places) + chosen.choice([0, 0, 1, 2]))
        positions = chosen.choice([None, 4])
        for items, job in ((batch, f"batch {n}"), (alone, f"alone {n}")):
            await add_live(world, [job], running=running)
            waiting = [
                make_slot(world, job, minute).wait_at(place)
                for minute, place in zip(minutes, places, strict=False)
            ]
            await world.executions.insert_many(waiting)
            items += [
                make_overlapping(world, job, minute, policy, positions)
                for minute in minutes[len(places) :]
            ]
    await world.admission.apply_policies(batch, world.clock.now())
    for one in sorted(alone, key=lambda one: one.execution.scheduled_for):
        await world.admission.apply_policies([one], world.clock.now())

    for n in range(8):
        assert await list_records(world, f"batch {n}") == await list_records(world, f"alone {n}")
