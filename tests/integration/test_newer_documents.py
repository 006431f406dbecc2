"""Documents of a newer release are left alone: by every loop, every listing and every request."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from pymongo import MongoClient

from app.engine.loop import AT_ONCE
from app.models.job import Job
from app.models.policy import OverlapPolicy
from app.repositories.documents import SCHEMA_VERSION
from app.repositories.mongo import open_client
from tests.support.api import Api, assert_problem, open_api
from tests.support.engine import LEASE, World, open_world

NEWER = SCHEMA_VERSION + 1
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

Document = dict[str, Any]


@pytest.fixture
async def world(mongo_uri: str, database_name: str) -> AsyncIterator[World]:
    world = await open_world(mongo_uri, database_name, driver=open_client)
    yield world
    await world.close()


@pytest.fixture
async def api(mongo_uri: str, database_name: str, redis_url: str) -> AsyncIterator[Api]:
    async with open_api(mongo_uri, database_name, redis_url) as api:
        yield api


class Planted:
    """The documents of a test, written by a newer release; `check` that nothing changed them."""

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
def planted(mongo_client: MongoClient[Document], database_name: str) -> Planted:
    return Planted(mongo_client, database_name)


async def test_the_scheduler_leaves_newer_jobs_alone_and_fires_the_others(
    world: World, planted: Planted
) -> None:
    process = world.process()
    newer = await world.add_job(world.every(60))
    other = await world.add_job(world.every(90))
    planted.make_newer("jobs", newer.id)
    world.clock.advance(2 * MINUTE)
    while await process.scheduler.tick() == AT_ONCE:
        pass
    assert len(await world.history(other)) == 1
    assert await world.history(newer) == []
    planted.check()


async def test_the_worker_leaves_newer_executions_alone_and_runs_the_others(
    world: World, planted: Planted
) -> None:
    process = world.process()
    job = await world.add_job(overlap_policy=OverlapPolicy.ALLOW_ALL)
    newer, other = await world.queue(job), await world.queue(job)
    planted.make_newer("executions", newer.id)
    await process.work()
    await process.worker.watch()
    await process.worker.guard()
    assert [d.execution_id for d in world.targets.deliveries] == [other.id]
    planted.check()


async def test_a_claim_whose_job_is_newer_is_given_back(world: World, planted: Planted) -> None:
    """It is neither run nor taken for the execution of a deleted job."""
    process = world.process()
    job = await world.add_job()
    execution = await world.queue(job)
    planted.make_newer("jobs", job.id)
    await process.worker.tick()
    await process.finish_attempts()
    given_back = await world.read(execution)
    assert (given_back.status, given_back.attempts) == ("queued", ())
    assert given_back.run_at > world.clock.now()
    assert world.targets.deliveries == []
    planted.check()


async def test_the_reaper_leaves_newer_executions_and_those_of_newer_jobs_alone(
    world: World, planted: Planted
) -> None:
    dead, alive = world.process(), world.process()
    job, newer_job, other_job = [await world.add_job() for _ in range(3)]
    newer, of_newer, other = [await world.queue(j) for j in (job, newer_job, other_job)]
    assert len(await dead.leases.claim(limit=3)) == 3
    planted.make_newer("executions", newer.id)
    planted.make_newer("jobs", newer_job.id)
    before = await world.read(of_newer)
    world.clock.advance(LEASE)
    await alive.reaper.tick()
    assert (await world.read(other)).status == "queued"
    assert await world.read(of_newer) == before
    planted.check()


async def test_newer_waiting_executions_are_not_promoted(world: World, planted: Planted) -> None:
    process = world.process()
    job = await world.add_job(overlap_policy=OverlapPolicy.BUFFER_ONE)
    waiting = await world.queue(job, waiting=True, place=0)
    planted.make_newer("executions", waiting.id)
    await process.reaper.tick()
    planted.check()


@pytest.mark.parametrize("policy", [OverlapPolicy.CANCEL_OTHER, OverlapPolicy.TERMINATE_OTHER])
async def test_a_newer_live_execution_is_not_ended_by_the_overlap_policy(
    world: World, planted: Planted, policy: OverlapPolicy
) -> None:
    process = world.process()
    job = await world.add_job(world.every(60), overlap_policy=policy)
    live = await world.queue(job, live_for=job.id)
    planted.make_newer("executions", live.id)
    world.clock.advance(MINUTE)
    await process.schedule()
    planted.check()


@pytest.mark.parametrize("loop", ["janitor", "trimmer"])
async def test_newer_history_is_not_deleted(world: World, planted: Planted, loop: str) -> None:
    engine = world.process(retention_count=1).runtime.engine
    assert engine.janitor is not None
    assert engine.trimmer is not None
    job = await world.add_job()
    old = world.clock.now() - 100 * DAY
    newer, _, newest = [
        await world.queue(job, status="failed", scheduled_for=old + n * MINUTE, finished_at=old)
        for n in range(3)
    ]
    planted.make_newer("executions", newer.id)
    await (engine.janitor if loop == "janitor" else engine.trimmer).tick()
    assert [execution.id for execution in await world.history(job)] == [newest.id]
    planted.check()


async def plant_job(api: Api, planted: Planted) -> tuple[Job, str]:
    """A newer job of alice, and the id of its execution."""
    async with api.open_client("alice") as alice:
        body = {"name": "newer", "interval": 60, "tags": ["a"]}
        created = (await alice.post("/jobs", json=body)).json()
        execution = (await alice.post(f"/jobs/{created['id']}/execute")).json()
    job = await api.read_job(created)
    planted.make_newer("jobs", job.id)
    planted.make_newer("executions", execution["id"])
    return job, execution["id"]


@pytest.mark.parametrize(
    "path", ["/jobs", "/jobs?tag=a", "/jobs?q=new", "/jobs?sort=name", "/executions"]
)
async def test_listings_leave_newer_documents_out(api: Api, planted: Planted, path: str) -> None:
    await plant_job(api, planted)
    for username in ("alice", "admin"):
        async with api.open_client(username) as client:
            response = await client.get(path)
            assert response.status_code == 200
            assert response.json()["items"] == []
    planted.check()


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
    api: Api, planted: Planted, method: str, path: str
) -> None:
    job, execution_id = await plant_job(api, planted)
    ids = {"job": job.id, "schedule": job.schedules[0].id, "execution": execution_id}
    body = {"description": "x"} if method in {"PATCH", "PUT"} else None
    async with api.open_client("alice") as alice:
        response = await alice.request(method, path.format(**ids), json=body)
    problem = assert_problem(response, 503)
    assert problem["type"] == "urn:carillon:problem:newer_document"
    assert "newer release" in problem["detail"]
    assert "retry-after" in response.headers
    planted.check()


async def test_a_newer_user_is_told_to_ask_a_newer_process(api: Api, planted: Planted) -> None:
    planted.make_newer("users", api.ids["bob"])
    async with api.open_client("bob") as bob:
        assert_problem(await bob.get("/jobs"), 503)
    planted.check()


async def test_a_newer_idempotency_key_is_not_taken_over(
    api: Api, planted: Planted, mongo_client: MongoClient[Document], database_name: str
) -> None:
    body = {"name": "once", "interval": 60}
    async with api.open_client("alice", **{"Idempotency-Key": "k"}) as alice:
        assert (await alice.post("/jobs", json=body)).status_code == 201
        planted.make_newer("idempotency_keys", f"{api.ids['alice']}:k")
        assert_problem(await alice.post("/jobs", json=body), 503)
    assert mongo_client[database_name]["jobs"].count_documents({}) == 1
    planted.check()


async def test_a_process_that_is_too_old_is_not_ready(api: Api) -> None:
    async with api.open_client() as nobody:
        assert (await nobody.get("/health/ready")).status_code == 200
        await api.runtime.repositories.meta.raise_schema_version(NEWER)
        response: httpx2.Response = await nobody.get("/health/ready")
    finding = assert_problem(response, 503)["checks"]["schema"]
    assert f"schema {NEWER}" in finding
    assert f"schema {SCHEMA_VERSION}" in finding
