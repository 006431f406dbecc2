"""Each frequent query is a single range of an index and examines only what it returns."""

from datetime import timedelta
from typing import Any

import pytest

from app.models.execution import ExecutionKind
from app.models.job import Job
from app.repositories.claims import UNCLAIMABLE
from app.repositories.due_jobs import ALL, POLL, DueJobs, build_owners_of_due_jobs
from app.repositories.slot_records import SlotKey, build_conditions
from tests.integration.repositories.plans import explain, list_stages
from tests.support.engine import LEASE, World, claim_due

STORED = 2_000
LIMIT = 50


@pytest.fixture(autouse=True)
async def _store_jobs(world: World) -> None:
    """Store 2,000 jobs. A third has no `next_run`; of the others, about half are due."""
    now = world.clock.now()
    documents: list[dict[str, Any]] = [
        {"_id": f"{i:032x}", "next_run": None if i % 3 == 0 else now + timedelta(seconds=i - 1000)}
        for i in range(STORED)
    ]
    await world.database.collection("jobs").insert_many(documents)


async def test_the_poll_examines_at_most_one_key_more_than_its_limit(world: World) -> None:
    stats = await explain_statistics(
        world,
        "jobs",
        filter=ALL.build_due_query(world.clock.now()),
        sort={"next_run": 1},
        limit=LIMIT,
    )
    assert stats["nReturned"] == LIMIT
    assert stats["totalKeysExamined"] <= LIMIT + 1
    assert stats["totalDocsExamined"] <= LIMIT + 1


async def test_the_poll_examines_nothing_when_nothing_is_due(world: World) -> None:
    past = world.clock.now() - timedelta(days=1)
    stats = await explain_statistics(
        world, "jobs", filter=ALL.build_due_query(past), sort={"next_run": 1}, limit=LIMIT
    )
    assert stats["totalKeysExamined"] <= 1


async def test_the_poll_from_an_instant_on_is_a_range_of_the_same_index(world: World) -> None:
    now = world.clock.now()
    since = now - timedelta(seconds=10)
    stats = await explain_statistics(
        world,
        "jobs",
        filter=DueJobs(since).build_due_query(now),
        sort={"next_run": 1},
        limit=LIMIT,
    )
    assert stats["totalKeysExamined"] <= stats["nReturned"] + 1 < 12


async def test_the_peek_examines_one_key(world: World) -> None:
    stats = await explain_statistics(
        world, "jobs", filter=ALL.build_peek_query(), sort={"next_run": 1}, limit=1
    )
    assert stats["totalKeysExamined"] == 1


@pytest.mark.parametrize("schedulers", [1, 2])
async def test_the_owners_of_due_jobs_are_read_from_keys_only(
    world: World, schedulers: int
) -> None:
    now = world.clock.now()
    part = ALL.of_part(["a", "b"][:schedulers], "a")
    pipeline = build_owners_of_due_jobs(now, due=part, after="", limit=LIMIT)
    aggregate = {"aggregate": "jobs", "pipeline": pipeline, "hint": POLL, "cursor": {}}
    plan = await world.database.collection("jobs").database.command(
        {"explain": aggregate, "verbosity": "executionStats"}
    )
    stats = plan["stages"][0]["$cursor"]["executionStats"]
    due = await world.database.collection("jobs").count_documents(ALL.build_due_query(now))
    assert stats["totalKeysExamined"] <= due + 1
    assert stats["totalDocsExamined"] == 0
    assert not {"FETCH", "SORT"} & list_stages(plan)


@pytest.mark.parametrize("schedulers", [2, 4, 40])
async def test_the_poll_of_a_part_examines_as_many_keys_per_job_as_there_are_parts(
    world: World, schedulers: int
) -> None:
    names = [f"process-{n:02}" for n in range(schedulers)]
    parts = min(schedulers, 16)
    now = world.clock.now()
    for name in names[:parts]:
        query = DueJobs().of_part(names, name).build_due_query(now)
        stats = await explain_statistics(
            world, "jobs", filter=query, sort={"next_run": 1}, limit=10
        )
        assert stats["nReturned"] == 10
        assert stats["totalKeysExamined"] <= parts * 11 + 16


async def test_the_records_of_slots_are_found_by_their_index(world: World) -> None:
    """An `$or` of few conditions; the other slots of 200 schedules are not examined."""
    job = await world.add_job()
    template = await world.queue(job, kind=ExecutionKind.SCHEDULED, schedule_id="x")
    second = timedelta(seconds=1)
    await world.executions.insert_many(
        [
            template.model_copy(
                update={
                    "id": world.new_id(),
                    "schedule_id": f"schedule {n}",
                    "scheduled_for": world.clock.now() + step * second,
                }
            )
            for n in range(200)
            for step in range(5)
        ]
    )
    keys: list[SlotKey] = [
        ("scheduled", None, f"schedule {n}", world.clock.now() + step * second)
        for n in range(200)
        for step in (1, 3)
    ]
    query = {"$or": build_conditions(keys)}
    stats = await explain_statistics(world, "executions", filter=query)
    assert stats["nReturned"] == stats["totalDocsExamined"] == 400
    assert stats["totalKeysExamined"] <= 2 * 400 + 200


async def test_the_claim_of_one_execution_examines_one_key(world: World) -> None:
    job = await world.add_job()
    await queue_many(world, job, 200)
    stats = await explain_statistics(
        world,
        "executions",
        filter=world.compose_process().leases.claimable() | {"owner_id": job.owner_id},
        sort={"run_at": 1},
        limit=1,
    )
    assert stats["nReturned"] == 1
    assert stats["totalKeysExamined"] <= 2


async def test_the_owners_of_due_executions_are_found_by_one_key_each(world: World) -> None:
    """The filter of the claim of earlier releases finds them too: such a process may still run."""
    process = world.compose_process()
    for n in range(10):
        await queue_many(world, await world.add_job(owner_id=f"owner {n}"), 100)
    pipeline = process.runtime.repositories.queue.build_due_owners("")
    command = {"aggregate": "executions", "pipeline": pipeline, "cursor": {}}
    plan = await world.database.collection("executions").database.command(
        {"explain": command, "verbosity": "executionStats"}
    )
    cursor = plan["stages"][0]["$cursor"]
    assert {"DISTINCT_SCAN", "PROJECTION_COVERED"} <= list_stages(cursor["queryPlanner"])
    assert cursor["executionStats"]["totalKeysExamined"] <= 11
    assert cursor["executionStats"]["totalDocsExamined"] == 0

    earlier = await explain(
        world,
        "executions",
        filter=process.leases.claimable(),
        sort={"run_at": 1},
        limit=LIMIT,
    )
    assert "COLLSCAN" not in list_stages(earlier["queryPlanner"])
    assert earlier["executionStats"]["nReturned"] == LIMIT


async def test_the_reaper_examines_at_most_one_key_more_than_the_expired_leases(
    world: World,
) -> None:
    leases = world.compose_process().leases
    job = await world.add_job()
    await queue_many(world, job, 100)
    await claim_due(leases, limit=100)
    world.clock.advance(LEASE / 2)
    await queue_many(world, job, 50)
    await claim_due(leases, limit=50)

    for expired in (0, 100):
        stats = await explain_statistics(
            world, "executions", filter=leases.build_expired_query(), sort={"lease_until": 1}
        )
        assert stats["nReturned"] == expired
        assert stats["totalKeysExamined"] <= expired + 1
        world.clock.advance(LEASE / 2)


async def test_the_search_for_unclaimable_executions_examines_no_others(world: World) -> None:
    job = await world.add_job()
    await queue_many(world, job, 100)
    stats = await explain_statistics(world, "executions", filter=UNCLAIMABLE)
    assert (stats["totalDocsExamined"], stats["nReturned"]) == (0, 0)
    assert stats["totalKeysExamined"] <= 3


async def explain_statistics(world: World, collection: str, **find: Any) -> dict[str, Any]:
    statistics: dict[str, Any] = (await explain(world, collection, **find))["executionStats"]
    return statistics


async def queue_many(world: World, job: Job, count: int) -> None:
    execution = await world.queue(job)
    await world.executions.insert_many(
        [execution.model_copy(update={"id": world.new_id()}) for _ in range(count - 1)]
    )


async def test_the_newest_slots_of_schedules_take_one_key_each(world: World) -> None:
    now, ids = world.clock.now(), [f"schedule-{n:02}" for n in range(20)]
    documents = [
        {
            "_id": f"{id_} {n}",
            "kind": "scheduled",
            "schedule_id": id_,
            "scheduled_for": now + timedelta(seconds=n),
            "missed_until": now + timedelta(seconds=99) if (id_, n) == (ids[3], 49) else None,
        }
        for id_ in ids
        for n in range(50)
    ]
    await world.database.collection("executions").insert_many(documents)
    database = world.database.collection("executions").database
    await database.command({"profile": 2})
    found = await world.executions.list_newest_slots(ids)
    await database.command({"profile": 0})
    last = now + timedelta(seconds=49)
    assert found == dict.fromkeys(ids, last) | {ids[3]: now + timedelta(seconds=99)}
    profiled = await database["system.profile"].find_one({"command.aggregate": "executions"})
    assert profiled is not None
    assert profiled["keysExamined"] <= 2 * len(ids) + 1
