"""Each listing of executions is a range of an index in its own order, without a sort."""

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from app.models.execution import ExecutionKind, ExecutionStatus
from app.repositories.executions import (
    LISTING_ORDER,
    ExecutionFilter,
    listing_index,
    listing_query,
)
from tests.support.engine import World, open_world

LIMIT = 20
STORED = 3_000
OWNERS, JOBS = ("owner-0", "owner-1"), tuple(f"job-{n}" for n in range(10))


@pytest.fixture
async def world(mongo_uri: str, database_name: str) -> AsyncIterator[World]:
    """Store executions of two owners, of which most have succeeded."""
    world = await open_world(mongo_uri, database_name)
    now = world.clock.now()
    documents: list[dict[str, Any]] = [
        {
            "_id": f"{n:032x}",
            "owner_id": OWNERS[n % 2],
            "job_id": JOBS[n % 10],
            "kind": "manual",
            "status": "failed" if n % 50 < 2 else "succeeded",
            "scheduled_for": now - timedelta(seconds=n // 3),
        }
        for n in range(STORED)
    ]
    await world.database.collection("executions").insert_many(documents)
    yield world
    await world.close()


async def explain(world: World, wanted: ExecutionFilter, page: int) -> dict[str, Any]:
    now = world.clock.now()
    before = (now - timedelta(seconds=100 * page), "f" * 32) if page else None
    command = {
        "explain": {
            "find": "executions",
            "filter": listing_query(wanted, before),
            "sort": dict(LISTING_ORDER),
            "hint": listing_index(wanted),
            "limit": LIMIT,
        },
        "verbosity": "executionStats",
    }
    explained: dict[str, Any] = await world.database.collection("jobs").database.command(command)
    return explained


def stages(plan: Any) -> set[str]:
    if isinstance(plan, dict):
        own = {plan["stage"]} if "stage" in plan else set()
        return own.union(*(stages(value) for value in plan.values()))
    if isinstance(plan, list):
        return set().union(*(stages(value) for value in plan))
    return set()


async def test_no_listing_scans_the_collection_or_sorts(world: World) -> None:
    failed = frozenset({ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT})
    since = world.clock.now() - timedelta(seconds=600)
    for owner, job, statuses, kind, start, page in product(
        (None, OWNERS[0]), (None, JOBS[0]), (None, failed), (None, ExecutionKind.MANUAL),
        (None, since), (0, 1),
    ):  # fmt: skip
        wanted = ExecutionFilter(owner, job, statuses, kind, since=start)
        plan = (await explain(world, wanted, page))["queryPlanner"]["winningPlan"]
        assert stages(plan).isdisjoint({"COLLSCAN", "SORT"}), wanted


@pytest.mark.parametrize("page", [0, 5])
@pytest.mark.parametrize(
    "wanted",
    [
        ExecutionFilter(),
        ExecutionFilter(owner_id=OWNERS[0]),
        ExecutionFilter(owner_id=OWNERS[0], job_id=JOBS[0]),
        ExecutionFilter(
            owner_id=OWNERS[0],
            statuses=frozenset({ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT}),
        ),
    ],
)
async def test_a_page_examines_only_what_it_returns(
    world: World, wanted: ExecutionFilter, page: int
) -> None:
    stats = (await explain(world, wanted, page))["executionStats"]
    assert stats["nReturned"] == LIMIT
    # A page may also examine executions of its first instant that the previous page returned.
    assert stats["totalKeysExamined"] <= LIMIT + 8
    assert stats["totalDocsExamined"] <= LIMIT + 8
