"""Each frequent query is a single range of an index and examines only what it returns."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from app.models.job import Job
from tests.support.engine import World, open_world

STORED = 2_000
LIMIT = 50


@pytest.fixture
async def world(mongo_uri: str, database_name: str) -> AsyncIterator[World]:
    """Stored jobs of which every second is due, every third has no `next_run`."""
    world = await open_world(mongo_uri, database_name)
    now = world.clock.now()
    documents: list[dict[str, Any]] = [
        {"_id": f"{i:032x}", "next_run": None if i % 3 == 0 else now + timedelta(seconds=i - 1000)}
        for i in range(STORED)
    ]
    await world.database.collection("jobs").insert_many(documents)
    yield world
    await world.close()


async def explain(world: World, collection: str, **find: Any) -> dict[str, Any]:
    command = {"explain": {"find": collection, **find}, "verbosity": "executionStats"}
    response = await world.database.collection("jobs").database.command(command)
    stats: dict[str, Any] = response["executionStats"]
    return stats


async def test_the_poll_examines_at_most_one_key_more_than_its_limit(world: World) -> None:
    stats = await explain(
        world,
        "jobs",
        filter=world.jobs.build_due_query(world.clock.now()),
        sort={"next_run": 1},
        limit=LIMIT,
    )
    assert stats["nReturned"] == LIMIT
    assert stats["totalKeysExamined"] <= LIMIT + 1
    assert stats["totalDocsExamined"] <= LIMIT + 1


async def test_the_poll_examines_nothing_when_nothing_is_due(world: World) -> None:
    past = world.clock.now() - timedelta(days=1)
    stats = await explain(
        world, "jobs", filter=world.jobs.build_due_query(past), sort={"next_run": 1}, limit=LIMIT
    )
    assert stats["totalKeysExamined"] <= 1


async def test_the_poll_from_an_instant_on_is_a_range_of_the_same_index(world: World) -> None:
    now = world.clock.now()
    since = now - timedelta(seconds=10)
    stats = await explain(
        world,
        "jobs",
        filter=world.jobs.build_due_query(now, since),
        sort={"next_run": 1},
        limit=LIMIT,
    )
    assert stats["totalKeysExamined"] <= stats["nReturned"] + 1 < 12


async def test_the_peek_examines_one_key(world: World) -> None:
    stats = await explain(
        world, "jobs", filter={"next_run": {"$type": "date"}}, sort={"next_run": 1}, limit=1
    )
    assert stats["totalKeysExamined"] == 1


async def test_the_claim_examines_at_most_one_key_more_than_its_limit(world: World) -> None:
    job = await world.add_job()
    await queue_many(world, job, 200)
    stats = await explain(
        world,
        "executions",
        filter=world.process().leases.claimable(),
        sort={"run_at": 1},
        limit=LIMIT,
    )
    assert stats["nReturned"] == LIMIT
    assert stats["totalKeysExamined"] <= LIMIT + 1


async def test_the_reaper_examines_only_what_has_expired(world: World) -> None:
    job = await world.add_job()
    await queue_many(world, job, 100)
    await world.process().leases.claim(limit=100)
    stats = await explain(
        world,
        "executions",
        filter={
            "status": "running",
            "$expr": {"$lte": ["$lease_until", world.clock.now_expression]},
        },
        sort={"lease_until": 1},
    )
    assert stats["totalKeysExamined"] <= 1


async def queue_many(world: World, job: Job, count: int) -> None:
    execution = await world.queue(job)
    await world.executions.insert_many(
        [execution.model_copy(update={"id": world.new_id()}) for _ in range(count - 1)]
    )
