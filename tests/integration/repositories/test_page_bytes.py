"""A page is cut before the database sends it: it sends at most `PAGE_BYTES` and one document."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from app.models.execution import Attempt, AttemptOutcome, ExecutionStatus, TargetResponse
from app.models.job import Job
from app.models.page import PAGE_BYTES
from app.models.target import HttpTargetSpec
from app.repositories import pages
from app.repositories.execution_listings import ExecutionFilter
from app.repositories.executions import ExecutionRepository
from app.repositories.job_listings import JobFilter, JobPageStart
from app.repositories.jobs import JobRepository
from app.repositories.mongo import Database, aggregate
from app.repositories.pages import FoundPage, choose_entries
from tests.support.commands import CommandLog
from tests.support.engine import World

OVERHEAD = 100_000
"""The most bytes of a response of the database beside the documents."""
SMALL, LARGE, HUGE = 2_000, 130_000, 5_000_000


@pytest.fixture
def log() -> CommandLog:
    return CommandLog()


@pytest.fixture
async def database(
    mongo_uri: str, database_name: str, log: CommandLog, world: World
) -> AsyncIterator[Database]:
    """The world's database, by a client whose commands are logged."""
    client = log.open_client(mongo_uri, timeout=timedelta(seconds=8))
    database = Database(client, database_name, clock=world.clock)
    yield database
    await database.close()


async def add_jobs(world: World, sizes: Sequence[int]) -> list[Job]:
    """Store jobs of about these sizes, in the order of their ids."""
    jobs = []
    for size in sizes:
        world.clock.advance(timedelta(milliseconds=1))
        half = "x" * (size // 2)
        target = HttpTargetSpec(url="https://a.test/", headers={"X": "b"}, body=half)
        jobs.append(await world.add_job(target=target, parameters={"a": half}))
    return jobs


async def list_pages(
    jobs: JobRepository, limit: int, *, partial: bool = False
) -> list[FoundPage[Job]]:
    """Read all jobs, the oldest first."""
    found: list[FoundPage[Job]] = []
    after = None
    while True:
        start = JobPageStart(descending=False, after_id=after)
        page = await jobs.list_jobs(JobFilter("owner"), limit=limit, start=start, partial=partial)
        found.append(page)
        if not page.has_more:
            return found
        after = page.records[-1].id


async def test_a_page_of_large_jobs_is_cut_and_the_next_page_continues(
    world: World, database: Database, log: CommandLog
) -> None:
    jobs = await add_jobs(world, [LARGE] * 40)
    found = await list_pages(JobRepository(database), 200)
    assert [job for page in found for job in page.records] == jobs
    assert [len(page.records) for page in found] == [30, 10]
    assert max(log.count_received_bytes()) <= PAGE_BYTES + OVERHEAD
    assert log.count() == 4


@pytest.mark.parametrize("limit", [1, 3, 200])
async def test_small_and_huge_jobs_in_any_order_are_listed_once(
    world: World, database: Database, log: CommandLog, limit: int
) -> None:
    sizes = [HUGE, SMALL, SMALL, LARGE, HUGE, HUGE, LARGE, *[SMALL] * 5, HUGE]
    jobs = await add_jobs(world, sizes)
    found = await list_pages(JobRepository(database), limit)
    assert [job for page in found for job in page.records] == jobs
    assert all(page.records for page in found)
    assert max(log.count_received_bytes()) <= PAGE_BYTES + HUGE + OVERHEAD


async def test_a_page_of_small_jobs_is_one_round_trip(
    world: World, database: Database, log: CommandLog
) -> None:
    jobs = await add_jobs(world, [SMALL] * 20)
    page = await JobRepository(database).list_jobs(JobFilter("owner"), limit=200)
    assert (page.records, page.has_more) == (jobs[::-1], False)
    assert log.commands == [("aggregate", "jobs")]


async def test_the_database_does_not_send_the_large_fields_of_partial_jobs(
    world: World, database: Database, log: CommandLog
) -> None:
    await add_jobs(world, [LARGE, HUGE])
    page = await JobRepository(database).list_jobs(JobFilter("owner"), limit=200, partial=True)
    assert len(page.records) == 2
    assert sum(log.count_received_bytes()) < 5_000


async def test_the_database_does_not_send_responses_of_partial_executions(
    world: World, database: Database, log: CommandLog
) -> None:
    now = world.clock.now()
    response = TargetResponse(status=500, headers={"X": "b" * 1_000}, body="c" * 65_536)
    fields: dict[str, Any] = {"job_revision": 1, "started_at": now, "response": response}
    attempts = tuple(
        Attempt(number=n, outcome=AttemptOutcome.FAILED, error="status 500", **fields)
        for n in range(1, 51)
    )
    job = await world.add_job()
    for _ in range(3):
        await world.queue(
            job, status=ExecutionStatus.FAILED, attempts=attempts, parameters={"a": "x" * 60_000}
        )
    repository = ExecutionRepository(database)
    wanted = ExecutionFilter(owner_id="owner")
    page = await repository.list_executions(wanted, limit=200, partial=True)
    assert (len(page.records), page.has_more) == (3, False)
    assert sum(log.count_received_bytes()) < 60_000
    log.clear()
    page = await repository.list_executions(wanted, limit=200)
    assert (len(page.records), page.has_more) == (1, True)
    assert page.records[0].attempts == attempts
    assert sum(log.count_received_bytes()) <= PAGE_BYTES + OVERHEAD


async def test_a_large_job_that_is_deleted_during_the_read_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is deleted between the two steps of the read."""
    first, deleted, third, last = await add_jobs(world, [LARGE] * 4)
    stored = world.database.collection("jobs")

    async def delete_after(*args: Any, **options: Any) -> Any:
        entries = await aggregate(*args, **options)
        await stored.delete_one({"_id": deleted.id})
        return entries

    monkeypatch.setattr(pages, "aggregate", delete_after)
    monkeypatch.setattr(pages, "_FIRST_STEP_BYTES", 1)
    found = await list_pages(world.jobs, 2)
    assert [job for page in found for job in page.records] == [first, third, last]


async def test_a_large_job_that_no_longer_matches_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is paused between the two steps of a read of active jobs."""
    kept, paused = await add_jobs(world, [LARGE, LARGE])
    stored = world.database.collection("jobs")

    async def pause_after(*args: Any, **options: Any) -> Any:
        entries = await aggregate(*args, **options)
        await stored.update_one({"_id": paused.id}, {"$set": {"active": False}})
        return entries

    monkeypatch.setattr(pages, "aggregate", pause_after)
    monkeypatch.setattr(pages, "_FIRST_STEP_BYTES", 1)
    page = await world.jobs.list_jobs(JobFilter("owner", active=True), limit=10)
    assert (page.records, page.has_more) == ([kept], False)


def make_entries(*sizes: int) -> list[dict[str, Any]]:
    """Entries of the first step; a negative size is that of a document that has been sent."""
    return [{"size": size} if size > 0 else {"size": -size, "document": {}} for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ((), 0),
        ((PAGE_BYTES + 1,), 1),
        ((PAGE_BYTES + 1, 1), 1),
        ((PAGE_BYTES + 1, -1), 2),
        ((PAGE_BYTES, 1), 1),
        ((PAGE_BYTES - 1, 1, 1), 2),
        ((-1, PAGE_BYTES), 1),
        ((-1, PAGE_BYTES - 1, -1), 1),
        ((1, 1, -1), 3),
    ],
)
def test_documents_are_chosen_up_to_the_first_that_does_not_fit(
    sizes: tuple[int, ...], chosen: int
) -> None:
    entries = make_entries(*sizes)
    assert len(choose_entries(entries)) == chosen
