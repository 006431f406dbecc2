"""Each listing of jobs reads one index range in the order of the listing, so it needs no sort."""

import itertools
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from app.models.execution import ExecutionStatus
from app.repositories.job_listings import LARGE_FIELDS, JobFilter, JobPageStart, listing_of
from app.repositories.pages import Range
from tests.integration.repositories.plans import explain_page, list_stages
from tests.support.engine import World, open_world

DATABASE = f"test_{uuid4().hex}"  # one database per pytest worker
STORED = 2_000
OWNERS = 4
LIMIT = 50

FILTERS = [
    JobFilter(active=active, tag=tag, target_type=kind, last_status=status, folded_prefix=prefix)
    for active, tag, kind, status, prefix in itertools.product(
        (None, True), (None, "even"), (None, "log"), (None, ExecutionStatus.FAILED), (None, "job 1")
    )
]
ORDERS = [
    JobPageStart(by_name=by_name, descending=descending, after_id=after, after_name="job 1500")
    for by_name, descending, after in itertools.product(
        (False, True), (False, True), (None, f"{1500:032x}")
    )
]


@pytest.fixture(scope="module")
async def world(mongo_uri: str, mongo_client: Any) -> AsyncIterator[World]:
    world = await open_world(mongo_uri, DATABASE)
    documents: list[dict[str, Any]] = [
        {
            "_id": f"{i:032x}",
            "owner_id": f"owner {i % OWNERS}",
            "folded_name": f"job {i}",
            "active": True,
            "tags": ["even" if i // OWNERS % 2 == 0 else "odd"],
            "target": {"type": "log"},
            "last_status": "failed",
        }
        for i in range(STORED)
    ]
    await world.database.collection("jobs").delete_many({})
    await world.database.collection("jobs").insert_many(documents)
    yield world
    await world.close()
    mongo_client.drop_database(DATABASE)


async def explain_listing(world: World, found: Range) -> tuple[set[str], dict[str, Any]]:
    response = await explain_page(world, "jobs", found, limit=LIMIT, without=LARGE_FIELDS)
    stages = list_stages(response["queryPlanner"]["winningPlan"])
    return stages, response["executionStats"]


@pytest.mark.parametrize("owner_id", ["owner 1", None])
@pytest.mark.parametrize("order", ORDERS)
async def test_no_listing_scans_the_collection_or_sorts_in_memory(
    world: World, order: JobPageStart, owner_id: str | None
) -> None:
    for wanted in FILTERS:
        fields = {name: getattr(wanted, name) for name in wanted.__slots__} | {"owner_id": owner_id}
        stages, stats = await explain_listing(world, listing_of(JobFilter(**fields), order))
        assert "IXSCAN" in stages
        assert not stages & {"COLLSCAN", "SORT", "SORT_MERGE"}, stages
        if owner_id is not None:
            assert stats["totalDocsExamined"] <= STORED / OWNERS


@pytest.mark.parametrize("owner_id", ["owner 1", None])
@pytest.mark.parametrize("order", ORDERS)
async def test_without_filters_a_page_examines_only_what_it_returns(
    world: World, order: JobPageStart, owner_id: str | None
) -> None:
    _, stats = await explain_listing(world, listing_of(JobFilter(owner_id=owner_id), order))
    assert stats["nReturned"] == LIMIT
    assert stats["totalKeysExamined"] <= LIMIT + 2
    assert stats["totalDocsExamined"] <= LIMIT + 2


@pytest.mark.parametrize("owner_id", ["owner 1", None])
async def test_by_tag_and_by_prefix_a_page_examines_only_what_it_returns(
    world: World, owner_id: str | None
) -> None:
    listings = [
        listing_of(JobFilter(owner_id=owner_id, tag="even"), JobPageStart()),
        listing_of(JobFilter(owner_id=owner_id, folded_prefix="job 1"), JobPageStart(by_name=True)),
    ]
    for found in listings:
        _, stats = await explain_listing(world, found)
        assert stats["nReturned"] == LIMIT
        assert stats["totalKeysExamined"] <= LIMIT + 1
