"""Herds: thousands of jobs that are all due at one instant, one herd for each catch-up policy."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pymongo import MongoClient
from pymongo.collection import Collection

from tests.chaos.evidence import JobDefinition, Result, ScheduleDefinition
from tests.chaos.testbed import FaultStep, Testbed, say
from tests.chaos.workload import make_body
from tests.support.changes import Document

CATCH_UP_POLICIES = ("none", "one", "all")
_PERIOD = timedelta(days=1)
_BATCH = 1_000
_STORED_A_SECOND = 1_000
_LONGEST_SECONDS = 120


def release_herds(size: int) -> FaultStep:
    """Let `size` jobs be due at one instant, under each catch-up policy in turn.

    Nothing is broken meanwhile, so each slot is on time, however long the backlog is.
    """

    async def apply(testbed: Testbed) -> None:
        for policy in CATCH_UP_POLICIES:
            now = datetime.now(UTC).replace(microsecond=0)
            due_at = now + timedelta(seconds=10 + size / _STORED_A_SECOND)
            schedule = ScheduleDefinition(period=_PERIOD, anchor=due_at)
            job = JobDefinition(schedules=(schedule,), catch_up=policy)
            await _store(testbed, job, policy, size)
            await asyncio.sleep(max(0.0, (due_at - datetime.now(UTC)).total_seconds()))
            began = time.monotonic()
            done = await asyncio.to_thread(_wait_until_done, testbed.uri, due_at, size)
            took = time.monotonic() - began
            say(f"herd under {policy}: {done} of {size} executions done after {took:.1f} s")

    return apply


async def _store(testbed: Testbed, job: JobDefinition, policy: str, size: int) -> None:
    """Create one job by the API, and store copies of it: thousands of calls would take minutes."""
    name = f"herd {policy}"
    driver = testbed.driver
    body = make_body(name, job, url=driver.receiver_url)
    for attempt in range(10):
        tried = f"{name}.{attempt}"
        created = await driver.client.call(
            "create", tried, "POST", "/jobs", body=body | {"name": tried}, definition=job
        )
        if created is not None:
            break
        await asyncio.sleep(1)
    assert created is not None, "no process creates a job"
    sent_at = time.time()
    copies = await asyncio.to_thread(_store_copies, testbed.uri, created["id"], name, size - 1)
    for copied in copies:
        testbed.journal.write(
            "call",
            verb="create",
            job=copied["name"],
            result=Result.OK,
            sent_at=sent_at,
            ended_at=time.time(),
            definition=job,
            job_id=copied["_id"],
            schedule_ids={"a": copied["schedules"][0]["id"]},
            revision=copied["revision"],
        )


def _store_copies(uri: str, job_id: str, name: str, count: int) -> list[Document]:
    client: MongoClient[Document]
    with MongoClient(uri, timeoutMS=60_000) as client:
        jobs: Collection[Document] = client["carillon"]["jobs"]
        original = jobs.find_one({"_id": job_id})
        assert original is not None
        copies = list(_copy(original, name, count))
        for start in range(0, count, _BATCH):
            jobs.insert_many(copies[start : start + _BATCH])
    return copies


def _copy(original: Document, name: str, count: int) -> Iterator[Document]:
    [schedule] = original["schedules"]
    for number in range(count):
        copied = f"{name} {number}"
        yield original | {
            "_id": uuid.uuid4().hex,
            "name": copied,
            "folded_name": copied,
            "schedules": [schedule | {"id": uuid.uuid4().hex}],
        }


def _wait_until_done(uri: str, due_at: datetime, size: int) -> int:
    """Wait until the executions of the slot have ended, and return how many have."""
    client: MongoClient[Document]
    ended = {"scheduled_for": due_at, "status": {"$nin": ["queued", "running"]}}
    ends_at = time.monotonic() + _LONGEST_SECONDS
    with MongoClient(uri, timeoutMS=60_000) as client:
        executions: Collection[Document] = client["carillon"]["executions"]
        while (done := executions.count_documents(ended)) < size and time.monotonic() < ends_at:
            time.sleep(1)
    return done
