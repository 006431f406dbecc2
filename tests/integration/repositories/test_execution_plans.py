"""Each listing of executions reads one index range in the order of the listing, without a sort."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from app.models.execution import ExecutionKind, ExecutionStatus
from app.repositories.execution_listings import LARGE_FIELDS, ExecutionFilter, listing_of
from tests.integration.repositories.plans import explain_page, list_stages
from tests.support.engine import World

LIMIT = 20
STORED = 3_000
OWNERS, JOBS = ("owner-0", "owner-1"), tuple(f"job-{n}" for n in range(10))


@pytest.fixture(autouse=True)
async def _store_executions(world: World) -> None:
    """Store executions of two owners, of which most have succeeded."""
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


async def explain_listing(world: World, wanted: ExecutionFilter, page: int) -> dict[str, Any]:
    now = world.clock.now()
    before = (now - timedelta(seconds=100 * page), "f" * 32) if page else None
    found = listing_of(wanted, before)
    return await explain_page(world, "executions", found, limit=LIMIT, without=LARGE_FIELDS)


async def test_no_listing_scans_the_collection_or_sorts(world: World) -> None:
    failed = frozenset({ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT})
    since = world.clock.now() - timedelta(seconds=600)
    for owner, job, statuses, kind, start, page in product(
        (None, OWNERS[0]), (None, JOBS[0]), (None, failed), (None, ExecutionKind.MANUAL),
        (None, since), (0, 1),
    ):  # fmt: skip
        wanted = ExecutionFilter(owner, job, statuses, kind, since=start)
        plan = (await explain_listing(world, wanted, page))["queryPlanner"]["winningPlan"]
        assert list_stages(plan).isdisjoint({"COLLSCAN", "SORT"}), wanted


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
    stats = (await explain_listing(world, wanted, page))["executionStats"]
    assert stats["nReturned"] == LIMIT
    # A page may also examine executions of its first instant that the previous page returned.
    assert stats["totalKeysExamined"] <= LIMIT + 8
    assert stats["totalDocsExamined"] <= LIMIT + 8
