"""Loops, listings and requests do not change documents of a newer release."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import httpx2
import pytest
from pymongo import MongoClient

from app.engine.loop import AT_ONCE
from app.models.execution import ExecutionStatus, Reason
from app.models.idempotency import StoredResponse
from app.models.job import Job
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy
from app.repositories.documents import SCHEMA_VERSION
from app.repositories.jobs import JobRepository, LastRun
from app.repositories.lease_fence import Lease
from app.repositories.leases import LeaseRepository
from app.repositories.mongo import open_client
from app.repositories.settlements import Settlement
from tests.support.api import Api, assert_problem
from tests.support.crash import Killed
from tests.support.engine import LEASE, World, claim_due, open_world

NEWER = SCHEMA_VERSION + 1
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

Document = dict[str, Any]


@pytest.fixture
async def world(mongo_uri: str, database_name: str) -> AsyncIterator[World]:
    world = await open_world(mongo_uri, database_name, driver=open_client)
    yield world
    await world.close()


class NewerDocuments:
    """Documents with the schema of a newer release, one per collection.

    `check` asserts that they are unchanged.
    """

    def __init__(self, client: MongoClient[Document], name: str) -> None:
        self._database = client[name]
        self._documents: dict[str, Document] = {}

    def make_newer(self, collection: str, document_id: str) -> None:
        changes = {"schema": NEWER, "of_the_newer_release": {"unknown": True}}
        self._database[collection].update_one({"_id": document_id}, {"$set": changes})
        self._documents[collection] = self._read(collection, document_id)

    def check(self) -> None:
        for collection, document in self._documents.items():
            assert self._read(collection, document["_id"]) == document

    def _read(self, collection: str, document_id: str) -> Document:
        document = self._database[collection].find_one({"_id": document_id})
        assert document is not None
        return document


@pytest.fixture
def newer_documents(mongo_client: MongoClient[Document], database_name: str) -> NewerDocuments:
    return NewerDocuments(mongo_client, database_name)


async def test_the_scheduler_skips_newer_jobs_and_fires_the_others(
    world: World, newer_documents: NewerDocuments
) -> None:
    process = world.compose_process()
    newer = await world.add_job(world.every(60))
    other = await world.add_job(world.every(90))
    newer_documents.make_newer("jobs", newer.id)
    world.clock.advance(2 * MINUTE)
    while await process.scheduler.tick() == AT_ONCE:
        pass
    assert len(await world.list_executions(other)) == 1
    assert await world.list_executions(newer) == []
    newer_documents.check()


async def test_the_worker_skips_newer_executions_and_executes_the_others(
    world: World, newer_documents: NewerDocuments
) -> None:
    process = world.compose_process()
    job = await world.add_job(overlap_policy=OverlapPolicy.ALLOW_ALL)
    newer, other = await world.queue(job), await world.queue(job)
    newer_documents.make_newer("executions", newer.id)
    await process.work()
    await process.worker.watch()
    await process.worker.guard()
    assert [d.execution_id for d in world.targets.deliveries] == [other.id]
    newer_documents.check()


async def test_a_claim_whose_job_is_newer_is_returned_to_the_queue(
    world: World, newer_documents: NewerDocuments
) -> None:
    """The worker neither starts the execution nor treats its job as deleted."""
    process = world.compose_process()
    job = await world.add_job()
    execution = await world.queue(job)
    newer_documents.make_newer("jobs", job.id)
    await process.worker.tick()
    await process.finish_attempts()
    returned = await world.read(execution)
    assert (returned.status, returned.attempts) == ("queued", ())
    assert returned.run_at > world.clock.now()
    assert world.targets.deliveries == []
    newer_documents.check()


async def test_the_reaper_skips_newer_executions_and_those_of_newer_jobs(
    world: World, newer_documents: NewerDocuments
) -> None:
    killed, other_process = world.compose_process(), world.compose_process()
    job, newer_job, other_job = [await world.add_job() for _ in range(3)]
    newer, of_newer, other = [await world.queue(j) for j in (job, newer_job, other_job)]
    assert len(await claim_due(killed.leases, limit=3)) == 3
    newer_documents.make_newer("executions", newer.id)
    newer_documents.make_newer("jobs", newer_job.id)
    before = await world.read(of_newer)
    world.clock.advance(LEASE)
    await other_process.reaper.tick()
    assert (await world.read(other)).status == "queued"
    assert await world.read(of_newer) == before
    newer_documents.check()


async def test_newer_waiting_executions_are_not_promoted(
    world: World, newer_documents: NewerDocuments
) -> None:
    process = world.compose_process()
    job = await world.add_job(overlap_policy=OverlapPolicy.BUFFER_ONE)
    waiting = await world.queue(job, waiting=True, place=0)
    newer_documents.make_newer("executions", waiting.id)
    await process.reaper.tick()
    newer_documents.check()


@pytest.mark.parametrize("policy", [OverlapPolicy.CANCEL_OTHER, OverlapPolicy.TERMINATE_OTHER])
async def test_a_newer_live_execution_is_not_ended_by_the_overlap_policy(
    world: World, newer_documents: NewerDocuments, policy: OverlapPolicy
) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60), overlap_policy=policy)
    live = await world.queue(job, live_for=job.id)
    newer_documents.make_newer("executions", live.id)
    world.clock.advance(MINUTE)
    await process.schedule()
    newer_documents.check()


@pytest.mark.parametrize("loop", ["janitor", "trimmer"])
async def test_newer_history_is_not_deleted(
    world: World, newer_documents: NewerDocuments, loop: str
) -> None:
    engine = world.compose_process(retention_count=1).runtime.engine
    assert engine.janitor is not None
    assert engine.trimmer is not None
    job = await world.add_job()
    old = world.clock.now() - 100 * DAY
    newer, _, newest = [
        await world.queue(job, status="failed", scheduled_for=old + n * MINUTE, finished_at=old)
        for n in range(3)
    ]
    newer_documents.make_newer("executions", newer.id)
    await (engine.janitor if loop == "janitor" else engine.trimmer).tick()
    assert [execution.id for execution in await world.list_executions(job)] == [newest.id]
    newer_documents.check()


async def test_500_newer_executions_do_not_hide_an_expired_one_from_the_reaper(
    world: World, mongo_client: MongoClient[Document], database_name: str
) -> None:
    """Their jobs became newer after the claim, so the query cannot leave them out."""
    dead, alive = world.compose_process(), world.compose_process()
    newer_job, other_job = await world.add_job(), await world.add_job()
    for _ in range(501):
        await world.queue(newer_job)
    assert len(await claim_due(dead.leases, limit=501)) == 501
    world.clock.advance(timedelta(milliseconds=1))
    other = await world.queue(other_job)
    await claim_due(dead.leases, limit=1)
    mongo_client[database_name]["jobs"].update_one(
        {"_id": newer_job.id}, {"$set": {"schema": NEWER}}
    )
    world.clock.advance(LEASE)
    assert await alive.reaper.tick() > AT_ONCE
    assert (await world.read(other)).status == "queued"


async def test_executions_of_newer_jobs_are_given_back_in_batches(
    world: World, newer_documents: NewerDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    job = await world.add_job()
    for _ in range(50):
        await world.queue(job)
    newer_documents.make_newer("jobs", job.id)
    settle, sizes = LeaseRepository.settle, list[int]()

    async def count(self: LeaseRepository, settlements: Any) -> list[bool]:
        sizes.append(len(settlements))
        return await settle(self, settlements)

    monkeypatch.setattr(LeaseRepository, "settle", count)
    await process.worker.tick()
    assert sizes == [50]


async def test_a_scheduler_that_cannot_advance_a_job_rests(
    world: World,
    newer_documents: NewerDocuments,
    mongo_client: MongoClient[Document],
    database_name: str,
) -> None:
    """The `missed` record of a newer release must be read by a process of that release."""
    process = world.compose_process()
    job = await world.add_job(world.every(60), catch_up=CatchUpPolicy(policy=CatchUpMode.NONE))
    world.clock.advance(10.5 * MINUTE)
    planned = await world.jobs.list_due(world.clock.now(), limit=1)
    jobs = mongo_client[database_name]["jobs"]
    await process.schedule()
    (missed,) = await world.list_executions(job)
    jobs.update_one(
        {"_id": job.id},
        {"$set": {"next_run": planned[0].next_run, "schedules.0.next_run": planned[0].next_run}},
    )
    newer_documents.make_newer("executions", missed.id)
    world.clock.advance(timedelta(milliseconds=1))
    for _ in range(3):
        assert await process.scheduler.tick() > AT_ONCE
    newer_documents.check()


async def test_no_write_of_a_service_touches_a_document_that_became_newer(
    world: World, newer_documents: NewerDocuments
) -> None:
    """It was read before a process of the newer release migrated it."""
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    queued, running = await world.queue(job), await world.queue(job)
    (_, claimed) = sorted(
        await claim_due(process.leases, limit=2), key=lambda e: e.id == running.id
    )
    await process.leases.settle(
        [
            Settlement(Lease(e.id, e.lease_token), ExecutionStatus.QUEUED)
            for e in await process.leases.list_owned()
            if e.id != claimed.id
        ]
    )
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=1)
    edited = job.model_copy(update={"description": "edited", "revision": 2})
    newer_documents.make_newer("jobs", job.id)
    assert not await world.jobs.replace(edited, expected=job)
    assert not await world.jobs.delete(job)
    assert await world.jobs.advance([(due[0], due[0])]) == 0
    last = LastRun(job.id, job.owner_id, world.clock.now(), ExecutionStatus.FAILED)
    await world.jobs.note_last_runs([last])
    newer_documents.check()
    for execution in (queued, running):
        newer_documents.make_newer("executions", execution.id)
        await world.executions.cancel_queued(execution.id, reason=Reason.CANCELLED_BY_USER)
        await world.executions.request_cancel(execution.id, reason=Reason.CANCELLED_BY_USER)
        await world.executions.cancel_for_deleted_job(job.id)
        assert execution.id not in [e.id for e in await process.leases.list_owned()]
        newer_documents.check()


async def test_a_newer_waiting_execution_is_neither_replaced_nor_promoted(
    world: World, newer_documents: NewerDocuments
) -> None:
    job = await world.add_job(overlap_policy=OverlapPolicy.CANCEL_OTHER)
    waiting = await world.queue(job, waiting=True, place=0)
    newer_documents.make_newer("executions", waiting.id)
    newcomer = waiting.model_copy(update={"id": world.new_id()})
    await world.overlaps.cancel_older_waiting([newcomer], 0)
    assert not await world.promotions.promote([job.id])
    newer_documents.check()


async def test_a_slot_with_a_newer_record_is_recorded(
    world: World, newer_documents: NewerDocuments
) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    due = await world.jobs.list_due(world.clock.now(), limit=10)
    with patch.object(JobRepository, "advance", side_effect=Killed), pytest.raises(Killed):
        await process.schedule()
    (recorded,) = await world.list_executions(job)
    newer_documents.make_newer("executions", recorded.id)
    assert await process.firing.fire(due, world.clock.now()) == 1
    advanced = await world.jobs.get(job.id, owner_id=None)
    assert advanced.next_run == world.clock.now() + MINUTE
    newer_documents.check()


async def test_an_idempotency_key_that_became_newer_is_not_written(
    api: Api, newer_documents: NewerDocuments
) -> None:
    async with api.open_client("alice", **{"Idempotency-Key": "k"}) as alice:
        await alice.post("/jobs", json={"name": "once", "interval": 60})
    keys = api.runtime.repositories.idempotency_keys
    key = await keys.find(f"{api.ids['alice']}:k")
    assert key is not None
    newer_documents.make_newer("idempotency_keys", key.id)
    assert not await keys.replace(key, expected=key)
    assert not await keys.store_response(key, StoredResponse(status=200, headers={}, body=b""))
    assert not await keys.delete(key)
    newer_documents.check()


async def add_newer_job(api: Api, newer_documents: NewerDocuments) -> tuple[Job, str]:
    """Add a newer job of alice. Return it and the id of its execution."""
    async with api.open_client("alice") as alice:
        body = {"name": "newer", "interval": 60, "tags": ["a"]}
        created = (await alice.post("/jobs", json=body)).json()
        execution = (await alice.post(f"/jobs/{created['id']}/execute")).json()
    job = await api.read_job(created)
    newer_documents.make_newer("jobs", job.id)
    newer_documents.make_newer("executions", execution["id"])
    return job, execution["id"]


@pytest.mark.parametrize(
    "path", ["/jobs", "/jobs?tag=a", "/jobs?q=new", "/jobs?sort=name", "/executions"]
)
async def test_listings_leave_newer_documents_out(
    api: Api, newer_documents: NewerDocuments, path: str
) -> None:
    await add_newer_job(api, newer_documents)
    for username in ("alice", "admin"):
        async with api.open_client(username) as client:
            response = await client.get(path)
            assert response.status_code == 200
            assert response.json()["items"] == []
    newer_documents.check()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/{job}"),
        ("PATCH", "/jobs/{job}"),
        ("PUT", "/jobs/{job}"),
        ("DELETE", "/jobs/{job}"),
        ("POST", "/jobs/{job}/activate"),
        ("POST", "/jobs/{job}/deactivate"),
        ("POST", "/jobs/{job}/execute"),
        ("GET", "/jobs/{job}/schedules"),
        ("GET", "/jobs/{job}/next-runs"),
        ("GET", "/schedules/{schedule}"),
        ("DELETE", "/schedules/{schedule}"),
        ("GET", "/executions/{execution}"),
        ("POST", "/executions/{execution}/cancel"),
        ("POST", "/executions/{execution}/retry"),
    ],
)
async def test_a_request_on_a_newer_document_is_a_503(
    api: Api, newer_documents: NewerDocuments, method: str, path: str
) -> None:
    job, execution_id = await add_newer_job(api, newer_documents)
    ids = {"job": job.id, "schedule": job.schedules[0].id, "execution": execution_id}
    body = {"description": "x"} if method in {"PATCH", "PUT"} else None
    async with api.open_client("alice") as alice:
        response = await alice.request(method, path.format(**ids), json=body)
    problem = assert_problem(response, 503)
    assert problem["type"] == "urn:carillon:problem:newer_document"
    assert "newer release" in problem["detail"]
    assert "retry-after" in response.headers
    newer_documents.check()


async def test_a_request_of_a_newer_user_is_a_503(
    api: Api, newer_documents: NewerDocuments
) -> None:
    newer_documents.make_newer("users", api.ids["bob"])
    async with api.open_client("bob") as bob:
        assert_problem(await bob.get("/jobs"), 503)
    newer_documents.check()


async def test_a_newer_idempotency_key_is_not_taken_over(
    api: Api,
    newer_documents: NewerDocuments,
    mongo_client: MongoClient[Document],
    database_name: str,
) -> None:
    body = {"name": "once", "interval": 60}
    async with api.open_client("alice", **{"Idempotency-Key": "k"}) as alice:
        assert (await alice.post("/jobs", json=body)).status_code == 201
        newer_documents.make_newer("idempotency_keys", f"{api.ids['alice']}:k")
        assert_problem(await alice.post("/jobs", json=body), 503)
    assert mongo_client[database_name]["jobs"].count_documents({}) == 1
    newer_documents.check()


async def test_a_process_that_is_too_old_is_not_ready(api: Api) -> None:
    async with api.open_client() as nobody:
        assert (await nobody.get("/health/ready")).status_code == 200
        await api.runtime.repositories.meta.raise_schema_version(NEWER)
        response: httpx2.Response = await nobody.get("/health/ready")
    finding = assert_problem(response, 503)["checks"]["schema"]
    assert f"schema {NEWER}" in finding
    assert f"schema {SCHEMA_VERSION}" in finding
