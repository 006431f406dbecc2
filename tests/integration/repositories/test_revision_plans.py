"""Each query on earlier parameters examines only what it returns, by an index."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from app.models.job_revision import RevisionKey
from app.repositories.job_revisions import JobRevisionRepository
from app.repositories.replaced_revisions import ReplacedRevisionRepository
from tests.support.engine import OWNER_ID, World

RECORDS = 300
EXECUTIONS = 2_000


class Profile:
    """What the database has examined for each command since the last look."""

    def __init__(self, world: World) -> None:
        self._entries = world.database.collection("system.profile")

    async def take(self) -> list[tuple[str, int, int]]:
        """The plan, the examined keys and the examined documents of each command."""
        entries = await self._entries.find({"ns": {"$not": {"$regex": "profile"}}}).to_list(None)
        await self._entries.database.command("profile", 0)
        await self._entries.drop()
        await self._entries.database.command("profile", 2)
        return [
            (one.get("planSummary", ""), one.get("keysExamined", 0), one.get("docsExamined", 0))
            for one in entries
            if one["op"] != "insert"
        ]


@pytest.fixture
async def profile(world: World) -> AsyncIterator[Profile]:
    """Store records and executions of several jobs and owners, then record each command."""
    now = world.clock.now()
    records: list[dict[str, Any]] = [
        {
            "_id": RevisionKey(f"job-{n % 3}", n).id,
            "job_id": f"job-{n % 3}",
            "owner_id": OWNER_ID if n % 3 == 1 else "other",
            "revision": n,
            "parameters": "{}",
            "bytes": 4_096,
            "replaced_at": now + timedelta(seconds=n),
        }
        for n in range(RECORDS)
    ]
    await world.database.collection("job_revisions").insert_many(records)
    executions = [
        {
            "_id": f"{n:032x}",
            "job_id": f"job-{n % 2}",
            "scheduled_for": now - timedelta(seconds=n // 3),
            "attempts": [{"job_revision": n}],
        }
        for n in range(EXECUTIONS)
    ]
    await world.database.collection("executions").insert_many(executions)
    jobs: list[dict[str, Any]] = [
        {"_id": f"job-{n}", "revision": RECORDS + n, "parameters": "{}"} for n in range(200)
    ]
    await world.database.collection("jobs").insert_many(jobs)
    profile = Profile(world)
    await profile.take()
    yield profile
    await world.database.collection("jobs").database.command("profile", 0)


async def test_parameters_of_many_revisions_are_found_by_id_in_one_call(
    world: World, profile: Profile
) -> None:
    revisions = JobRevisionRepository(world.database)
    earlier = [RevisionKey(f"job-{n % 3}", n) for n in range(100)]
    present = [RevisionKey(f"job-{n}", RECORDS + n) for n in range(100)]
    found = await revisions.find_parameters([*earlier, *present])
    assert list(found.values()) == [{}] * 200
    [(_, keys, documents)] = await profile.take()
    assert keys <= 300  # each job, and each record
    assert documents <= 300


async def test_the_size_of_an_owner_is_read_from_index_keys(world: World, profile: Profile) -> None:
    assert await JobRevisionRepository(world.database).sum_bytes(OWNER_ID) == 100 * 4_096
    [(plan, keys, documents)] = await profile.take()
    assert plan.startswith("IXSCAN { owner_id: 1")
    assert (keys, documents) == (100, 0)


async def test_the_oldest_records_of_an_owner_are_found_by_index(
    world: World, profile: Profile
) -> None:
    revisions = JobRevisionRepository(world.database)
    own = RevisionKey("job-1", 4).id
    assert await revisions.drop_oldest(OWNER_ID, bytes_=3 * 4_096, kept_id=own) == 3
    for plan, keys, documents in await profile.take():
        assert plan.startswith(("IXSCAN { owner_id: 1", "IXSCAN { _id: 1", "IDHACK"))
        assert max(keys, documents) <= 101
    records = world.database.collection("job_revisions")
    left = await records.find({"owner_id": OWNER_ID}).sort("replaced_at", 1).limit(3).to_list(None)
    assert [record["revision"] for record in left] == [4, 13, 16]


async def test_the_janitor_reads_pages_of_one_range(world: World, profile: Profile) -> None:
    revisions = ReplacedRevisionRepository(world.database)
    page = await revisions.list_records(after=RevisionKey("job-0", 150).id, limit=20)
    assert len(page.records) == 20
    [(plan, keys, documents)] = await profile.take()
    assert plan.startswith("IXSCAN { _id: 1")
    assert max(keys, documents) <= 21
    used = await revisions.list_used("job-1", after=None, limit=50)
    for _ in range(2):
        used = await revisions.list_used("job-1", after=used.reached, limit=50)
    assert len(used.revisions) == 50
    for plan, keys, documents in await profile.take():
        assert plan.startswith("IXSCAN { job_id: 1, scheduled_for: -1")
        assert max(keys, documents) <= 55
