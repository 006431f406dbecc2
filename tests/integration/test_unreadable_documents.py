"""A malformed document harms only itself, in every role and in every request."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from bson import CodecOptions, DatetimeMS, Timestamp, encode
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from structlog.testing import capture_logs

from app.engine.loop import AT_ONCE
from app.errors import UnavailableError
from app.models.execution import Execution, ExecutionStatus
from app.models.job import Job
from app.models.policy import OverlapPolicy
from app.repositories.documents import SCHEMA_VERSION, read_key
from app.repositories.leases import LeaseRepository
from app.repositories.meta import MetaRepository
from app.repositories.migrations import migrate
from app.repositories.mongo import open_client
from tests.support.api import Api, JsonBody, assert_problem, create_job
from tests.support.clock import START
from tests.support.engine import LEASE, World, claim_due, open_world

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
REFERENCE = {"$ref": "a", "$id": "b"}
TOLERANT: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, unicode_decode_error_handler="replace"
)
INVALID_UTF_8 = "bytes that are not UTF-8"

Document = dict[str, Any]
Client = MongoClient[Document]

OPEN_ATTEMPT: Document = {"number": 1, "job_revision": 1, "started_at": START}
ODD_EXECUTIONS: dict[str, Document] = {
    "a reference in place of text": {"parameters": REFERENCE},
    "text that is not JSON": {"parameters": "{"},
    "JSON of another type": {"parameters": "[1]"},
    "an unknown kind": {"kind": "unknown"},
    "invalid UTF-8": {"kind": INVALID_UTF_8},
    "a missing field": {"created_at": None},
    "text in place of an instant": {"created_at": "2026-01-01T00:00:00Z"},
    "an instant before the first year": {"created_at": DatetimeMS(-(2**60))},
    "an instant after the last year": {"created_at": DatetimeMS(2**60)},
    "an instant at the edge of the range": {"created_at": DatetimeMS(-62_135_596_800_000)},
    "no list of attempts": {"attempts": "none"},
    "a malformed attempt": {"attempts": [5, {}]},
    "no attempts": {"attempts": None},
    "an attempt of another number": {"attempts": [OPEN_ATTEMPT | {"number": 5}]},
    "an attempt of the number 0": {"attempts": [OPEN_ATTEMPT | {"number": 0}]},
    "an attempt whose number is text": {"attempts": [OPEN_ATTEMPT | {"number": "1"}]},
    "two attempts of the same number": {"attempts": [OPEN_ATTEMPT, OPEN_ATTEMPT]},
    "a token that is not a number": {"lease_token": "x"},
    "no token": {"lease_token": None},
    "a job id that is not text": {"job_id": REFERENCE},
    "a schema number that is not a number": {"schema": "x"},
    "a schema number that compares with none": {"schema": float("nan")},
}
ODD_JOBS: dict[str, Document] = {
    "a reference in place of text": {"parameters": REFERENCE},
    "text that is not JSON": {"parameters": "{"},
    "a target that is not an object": {"target": 5},
    "an unknown target": {"target": {"type": "unknown"}},
    "headers that are not pairs": {"target": {"type": "http", "url": "x", "headers": [5]}},
    "a body that is not JSON": {"target": {"type": "http", "url": "x", "body": "{"}},
    "a name that is not text": {"name": 5},
    "a malformed schedule": {"schedules": [5]},
    "no schedules": {"schedules": None},
    "a revision that is not a number": {"revision": "1"},
    "an interval of nothing": {"schedules.0.interval_seconds": 0},
    "text in place of an instant": {"schedules.0.next_run": "2026-01-01T00:00:00"},
    "a jitter out of range": {"schedules.0.jitter_seconds": -1},
    "a timeout that is not a number": {"timeout_seconds": float("nan")},
    "a retry policy out of range": {"retry": {"delay_seconds": float("inf")}},
    "an instant before the first year": {"next_run": DatetimeMS(-(2**60))},
    "a schema number that is not a number": {"schema": "x"},
}


class Store:
    """Makes stored documents malformed, and reads them without the code under test."""

    def __init__(self, client: Client, name: str) -> None:
        self._database = client[name]

    def spoil(self, collection: str, id_: str, changes: Document) -> None:
        """Set these fields; remove those whose value is None."""
        found = {name: value for name, value in changes.items() if value is not None}
        removed = dict.fromkeys(changes.keys() - found.keys(), True)
        for operator, fields in (("$set", found), ("$unset", removed)):
            if fields:
                self._database[collection].update_one({"_id": id_}, {operator: fields})

    def spoil_text(self, collection: str, id_: str, field: str) -> None:
        """Replace a text by bytes that are not UTF-8, which no driver would write."""
        document = self._database[collection].find_one({"_id": id_})
        assert document is not None
        raw = encode(document | {field: "xyxyxy"}).replace(b"xyxyxy", b"\xff\xfe\xff\xfe\xff\xfe")
        self._database[collection].replace_one({"_id": id_}, RawBSONDocument(raw, TOLERANT))

    def read(self, collection: str, id_: str, *fields: str) -> Document:
        found = self._database[collection].find_one({"_id": id_}, dict.fromkeys(fields, True))
        assert found is not None
        return found

    def count(self, collection: str) -> int:
        return self._database[collection].count_documents({})

    def assert_failed(self, execution: Execution) -> None:
        fields = ("status", "reason", "live_for", "lease_owner", "lease_until", "place")
        found = self.read("executions", execution.id, *fields)
        assert found == {"_id": execution.id, "status": "failed", "reason": "unreadable"}
        assert self.read("executions", execution.id, "finished_at")["finished_at"] is not None

    def assert_paused(self, job: Job) -> None:
        assert self.read("jobs", job.id, "active", "pause_reason", "next_run") == {
            "_id": job.id,
            "active": False,
            "pause_reason": "unreadable",
            "next_run": None,
        }


@pytest.fixture
def database_name(emptied_database_name: str) -> str:
    return emptied_database_name


@pytest.fixture
def store(mongo_client: Client, database_name: str) -> Store:
    return Store(mongo_client, database_name)


@pytest.fixture
async def world(mongo_uri: str, database_name: str) -> AsyncIterator[World]:
    world = await open_world(mongo_uri, database_name, driver=open_client)
    yield world
    await world.close()


@pytest.fixture(params=list(ODD_EXECUTIONS.values()), ids=list(ODD_EXECUTIONS))
def odd_execution(request: pytest.FixtureRequest) -> Document:
    changes: Document = request.param
    return changes


@pytest.fixture(params=list(ODD_JOBS.values()), ids=list(ODD_JOBS))
def odd_job(request: pytest.FixtureRequest) -> Document:
    changes: Document = request.param
    return changes


def spoil_execution(store: Store, execution: Execution, changes: Document) -> None:
    if INVALID_UTF_8 in changes.values():
        store.spoil_text("executions", execution.id, next(iter(changes)))
    else:
        store.spoil("executions", execution.id, changes)


async def queue_two(world: World, **changes: Any) -> tuple[Execution, Execution]:
    """Queue an execution of each of two jobs: the first one is to become malformed."""
    first, second = await world.add_job(), await world.add_job()
    odd = await world.queue(first, live_for=first.id, **changes)
    return odd, await world.queue(second, live_for=second.id, **changes)


def names_of(logs: list[Any]) -> list[str]:
    return [line["event"] for line in logs if "unreadable" in line["event"]]


async def test_the_worker_ends_an_unreadable_execution_and_runs_the_others(
    world: World, store: Store, odd_execution: Document
) -> None:
    process = world.compose_process()
    odd, healthy = await queue_two(world)
    spoil_execution(store, odd, odd_execution)
    with capture_logs() as logs:
        await process.work()
        await process.reaper.tick()
        await process.work()
    assert [d.execution_id for d in world.targets.deliveries] == [healthy.id]
    assert (await world.read(healthy)).status is ExecutionStatus.SUCCEEDED
    store.assert_failed(odd)
    assert names_of(logs) == ["execution_unreadable"]


async def test_a_worker_in_doubt_ends_an_unreadable_claim_and_starts_the_others(
    world: World, store: Store, odd_execution: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response to the claim was lost."""
    process = world.compose_process()
    odd, healthy = await queue_two(world)
    claim = LeaseRepository.claim

    async def lose_response(self: LeaseRepository, slots: Mapping[str, int]) -> Any:
        await claim(self, slots)
        raise UnavailableError("the response was lost")

    with monkeypatch.context() as patch:
        patch.setattr(LeaseRepository, "claim", lose_response)
        with pytest.raises(UnavailableError):
            await process.worker.tick()
    spoil_execution(store, odd, odd_execution)
    await process.work()
    assert [d.execution_id for d in world.targets.deliveries] == [healthy.id]
    store.assert_failed(odd)


async def test_the_reaper_ends_an_unreadable_execution_and_promotes_the_next(
    world: World, store: Store, odd_execution: Document
) -> None:
    dead, alive = world.compose_process(), world.compose_process()
    odd, healthy = await queue_two(world)
    assert len(await claim_due(dead.leases, limit=2)) == 2
    job = await world.jobs.get(odd.job_id, owner_id=None)
    waiting = await world.queue(job, waiting=True, place=0)
    spoil_execution(store, odd, odd_execution)
    world.clock.advance(LEASE)
    with capture_logs() as logs:
        await alive.reaper.tick()
        await alive.reaper.tick()
    assert (await world.read(healthy)).status is ExecutionStatus.QUEUED
    store.assert_failed(odd)
    promoted = await world.read(waiting)
    assert (promoted.waiting, promoted.live_for) == (False, job.id)
    assert names_of(logs) == ["execution_unreadable"]


async def test_an_execution_that_waits_behind_an_unreadable_one_is_promoted(
    world: World, store: Store
) -> None:
    process = world.compose_process()
    odd, _ = await queue_two(world)
    job = await world.jobs.get(odd.job_id, owner_id=None)
    waiting = await world.queue(job, waiting=True, place=0)
    store.spoil("executions", odd.id, {"parameters": REFERENCE})
    await process.work()
    await process.reaper.tick()
    await process.work()
    assert (await world.read(waiting)).status is ExecutionStatus.SUCCEEDED
    assert (await world.jobs.get(job.id, owner_id=None)).last_status is not None


async def test_an_unreadable_execution_sets_the_last_status_of_its_job(
    world: World, store: Store
) -> None:
    process = world.compose_process()
    odd, _ = await queue_two(world)
    store.spoil("executions", odd.id, {"parameters": REFERENCE})
    await process.work()
    job = await world.jobs.get(odd.job_id, owner_id=None)
    assert (job.last_status, job.last_run) == ("failed", odd.scheduled_for)


@pytest.mark.parametrize(
    "run_at",
    [None, "text", 5, DatetimeMS(-(2**60)), DatetimeMS(2**60), Timestamp(5, 1)],
    ids=str,
)
async def test_an_odd_start_time_does_not_hide_other_executions(
    world: World, store: Store, run_at: object
) -> None:
    process = world.compose_process()
    odd, healthy = await queue_two(world)
    store.spoil("executions", odd.id, {"run_at": run_at})
    for _ in range(3):
        await process.worker.tick()
        await process.finish_attempts()
    assert [d.execution_id for d in world.targets.deliveries] == [healthy.id]
    assert await process.worker.tick() > AT_ONCE


@pytest.mark.parametrize("waiting", [None, "false", 0, 0.0, {}, []], ids=str)
async def test_the_reaper_ends_a_queued_execution_that_nobody_else_reads(
    world: World, store: Store, waiting: object
) -> None:
    process = world.compose_process()
    odd, healthy = await queue_two(world)
    job = await world.jobs.get(odd.job_id, owner_id=None)
    buffered = await world.queue(job, waiting=True, place=0)
    store.spoil("executions", odd.id, {"waiting": waiting})
    await process.work()
    with capture_logs() as logs:
        await process.reaper.tick()
    store.assert_failed(odd)
    assert names_of(logs) == ["execution_unreadable"]
    assert (await world.read(healthy)).status is ExecutionStatus.SUCCEEDED
    assert (await world.read(buffered)).live_for == job.id


async def test_a_queued_execution_of_the_first_schema_is_left_to_its_migration(
    world: World, mongo_client: Client, database_name: str
) -> None:
    process = world.compose_process()
    odd, _ = await queue_two(world)
    change = {"$unset": {"schema": True}, "$rename": {"waiting": "held"}}
    mongo_client[database_name]["executions"].update_one({"_id": odd.id}, change)
    await process.reaper.tick()
    assert (await world.read(odd)).status is ExecutionStatus.QUEUED


async def test_500_executions_that_nobody_can_settle_do_not_hide_an_expired_one(
    world: World, store: Store, mongo_client: Client, database_name: str
) -> None:
    dead, alive = world.compose_process(), world.compose_process()
    odd, healthy = await queue_two(world)
    assert len(await claim_due(dead.leases, limit=2)) == 2
    executions = mongo_client[database_name]["executions"]
    found = executions.find_one({"_id": odd.id})
    assert found is not None
    long_ago = {"lease_until": world.clock.now() - MINUTE, "live_for": odd.job_id}
    copies = [found | long_ago | {"_id": f"{n:05}xyxyxy", "live_for": str(n)} for n in range(500)]
    executions.insert_many(
        [
            # No query finds such an id, because the driver replaces the bytes.
            RawBSONDocument(encode(one).replace(b"xyxyxy", b"\xff\xfe\xff\xfe\xff\xfe"), TOLERANT)
            for one in ({**one, "kind": "unknown"} for one in copies)
        ]
    )
    world.clock.advance(LEASE)
    await alive.reaper.tick()
    assert (await world.read(healthy)).status is ExecutionStatus.QUEUED


async def test_500_unreadable_executions_do_not_delay_the_takeover_of_another(
    world: World, mongo_client: Client, database_name: str
) -> None:
    dead, alive = world.compose_process(), world.compose_process()
    odd, healthy = await queue_two(world)
    assert len(await claim_due(dead.leases, limit=2)) == 2
    executions = mongo_client[database_name]["executions"]
    found = executions.find_one({"_id": odd.id})
    assert found is not None
    long_ago = {"lease_until": world.clock.now() - MINUTE, "attempts": [{"number": 5}]}
    executions.insert_many(
        [found | long_ago | {"_id": f"odd-{n}", "live_for": f"odd-{n}"} for n in range(500)]
    )
    world.clock.advance(LEASE)
    await alive.reaper.tick()
    assert (await world.read(healthy)).status is ExecutionStatus.QUEUED
    assert executions.count_documents({"reason": "unreadable"}) == 500


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (START, START),
        (DatetimeMS(2**60), None),
        (DatetimeMS(-(2**60)), START),
        ("text", START),
        (Timestamp(5, 1), None),
    ],
    ids=str,
)
def test_a_key_that_is_no_instant_counts_as_it_sorts(value: object, expected: object) -> None:
    assert read_key({"key": value, "now": START}, "key") == expected


async def test_the_scheduler_and_the_worker_pause_an_unreadable_job_and_fire_the_others(
    world: World, store: Store, odd_job: Document
) -> None:
    """Firing does not read all fields. So some jobs are paused at the claim of their execution."""
    process = world.compose_process()
    odd, healthy = await world.add_job(world.every(60)), await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    store.spoil("jobs", odd.id, odd_job)
    with capture_logs() as logs:
        for _ in range(3):
            await process.scheduler.tick()
            await process.work()
    assert await process.scheduler.tick() > AT_ONCE
    assert {d.job_id for d in world.targets.deliveries} == {healthy.id}
    store.assert_paused(odd)
    assert names_of(logs) == ["job_unreadable"]
    for execution in await world.list_executions(odd):
        assert (execution.status, execution.reason) == ("failed", "unreadable")


async def test_the_worker_fails_the_execution_of_an_unreadable_job(
    world: World, store: Store, odd_job: Document
) -> None:
    process = world.compose_process()
    job, other = await world.add_job(world.every(60)), await world.add_job()
    of_odd, healthy = await world.queue(job), await world.queue(other)
    store.spoil("jobs", job.id, odd_job)
    await process.work()
    assert [d.execution_id for d in world.targets.deliveries] == [healthy.id]
    ended = await world.read(of_odd)
    assert (ended.status, ended.reason) == ("failed", "unreadable")
    store.assert_paused(job)


async def test_the_reaper_fails_the_expired_execution_of_an_unreadable_job(
    world: World, store: Store, odd_job: Document
) -> None:
    dead, alive = world.compose_process(), world.compose_process()
    job, other = await world.add_job(world.every(60)), await world.add_job()
    of_odd, healthy = await world.queue(job), await world.queue(other)
    assert len(await claim_due(dead.leases, limit=2)) == 2
    store.spoil("jobs", job.id, odd_job)
    world.clock.advance(LEASE)
    await alive.reaper.tick()
    ended = await world.read(of_odd)
    assert (ended.status, ended.reason) == ("failed", "unreadable")
    assert (await world.read(healthy)).status is ExecutionStatus.QUEUED
    store.assert_paused(job)


@pytest.mark.parametrize("policy", [p for p in OverlapPolicy if p is not OverlapPolicy.ALLOW_ALL])
async def test_an_unreadable_live_execution_does_not_stop_the_firing_of_other_jobs(
    world: World, store: Store, odd_execution: Document, policy: OverlapPolicy
) -> None:
    process = world.compose_process()
    job = await world.add_job(world.every(60), overlap_policy=policy)
    other = await world.add_job(world.every(60), overlap_policy=policy)
    odd = await world.queue(job, live_for=job.id)
    waiting = await world.queue(other, waiting=True, place=0)
    spoil_execution(store, odd, odd_execution)
    store.spoil("executions", waiting.id, {"place": "first"})
    world.clock.advance(MINUTE)
    await process.schedule()
    assert [e.scheduled_for for e in await world.list_executions(other)][-1] == world.clock.now()
    await process.reaper.tick()


async def test_a_waiting_execution_with_an_odd_job_id_does_not_stop_the_promotions(
    world: World, store: Store
) -> None:
    process = world.compose_process()
    jobs = [await world.add_job() for _ in range(3)]
    one, two, healthy = [await world.queue(job, waiting=True, place=0) for job in jobs]
    store.spoil("executions", one.id, {"job_id": {"a": 1}})
    store.spoil("executions", two.id, {"job_id": 5})
    await process.reaper.tick()
    assert not (await world.read(healthy)).waiting


@pytest.mark.parametrize("loop", ["janitor", "trimmer"])
@pytest.mark.parametrize(
    "changes",
    [
        {"status": "unknown"},
        {"status": {"a": 1}},
        {"status": None},
        {"scheduled_for": "text"},
        {"scheduled_for": None},
        {"finished_at": DatetimeMS(-(2**60))},
    ],
    ids=str,
)
async def test_unreadable_history_does_not_stop_the_deletion_of_the_rest(
    world: World, store: Store, changes: Document, loop: str
) -> None:
    engine = world.compose_process(retention_count=2).runtime.engine
    assert engine.janitor is not None
    assert engine.trimmer is not None
    job, old = await world.add_job(), world.clock.now() - 100 * DAY
    records = [
        await world.queue(job, status="failed", scheduled_for=old + n * MINUTE, finished_at=old)
        for n in range(6)
    ]
    store.spoil("executions", records[1].id, changes)
    await (engine.janitor if loop == "janitor" else engine.trimmer).tick()
    kept = {execution.id for execution in await world.list_executions(job)}
    assert records[0].id not in kept
    assert records[2].id not in kept
    assert records[5].id in kept


async def test_the_trimmer_reaches_the_jobs_after_one_with_an_odd_id(
    world: World, mongo_client: Client, database_name: str
) -> None:
    trimmer = world.compose_process(retention_count=1).runtime.engine.trimmer
    assert trimmer is not None
    mongo_client[database_name]["jobs"].insert_many([{"_id": n} for n in range(25)])
    job, old = await world.add_job(), world.clock.now() - 100 * DAY
    for n in range(3):
        at = old + n * MINUTE
        await world.queue(job, status="failed", scheduled_for=at, finished_at=at)
    for _ in range(3):
        await trimmer.tick()
    assert len(await world.list_executions(job)) == 1


async def test_a_newer_document_with_odd_fields_is_left_alone(world: World, store: Store) -> None:
    process = world.compose_process()
    odd, _ = await queue_two(world)
    job = await world.add_job(world.every(60))
    newer = {"schema": SCHEMA_VERSION + 1, "parameters": REFERENCE}
    store.spoil("executions", odd.id, newer)
    store.spoil("jobs", job.id, newer)
    before = store.read("executions", odd.id), store.read("jobs", job.id)
    world.clock.advance(MINUTE)
    await process.schedule()
    await process.work()
    await process.reaper.tick()
    assert (store.read("executions", odd.id), store.read("jobs", job.id)) == before


async def test_schema_versions_that_are_no_numbers_are_replaced(
    world: World, mongo_client: Client, database_name: str
) -> None:
    meta = MetaRepository(world.database)
    odd = {"_id": "schema", "schema_version": "x", "migrated_version": {"$ref": "a", "$id": "b"}}
    mongo_client[database_name]["meta"].insert_one(odd)
    assert await meta.get_schema_version() == 1
    await migrate(world.database, meta=meta)
    versions = await meta.get_schema_version(), await meta.get_migrated_version()
    assert versions == (SCHEMA_VERSION, SCHEMA_VERSION)


async def add_items(api: Api, store: Store, odd: Document) -> tuple[Job, str]:
    """Add a job of alice that is malformed, and an execution of it. Return both."""
    async with api.open_client("alice") as alice:
        created = await create_job(alice, name="odd", interval=60, tags=["a"])
        execution = (await alice.post(f"/jobs/{created['id']}/execute")).json()
    job = await api.read_job(created)
    store.spoil("jobs", job.id, odd)
    return job, execution["id"]


def assert_unreadable(response: Any, id_: str) -> None:
    problem = assert_problem(response, 500)
    assert problem["type"] == "urn:carillon:problem:unreadable_document"
    assert id_ in problem["detail"]


async def test_an_unreadable_job_is_deleted_like_any_other(
    api: Api, store: Store, odd_job: Document
) -> None:
    job, execution_id = await add_items(api, store, odd_job)
    path = f"/jobs/{job.id}"
    async with api.open_client("bob") as bob, api.open_client("alice") as alice:
        assert_problem(await bob.delete(path), 404)
        assert_unreadable(await alice.get(path), job.id)
        store.assert_paused(job)
        assert_problem(await alice.delete(path, headers={"If-Match": '"99-x"'}), 412)
        assert (await alice.delete(path)).status_code == 204
        assert_problem(await alice.get(path), 404)
        assert_problem(await alice.delete(path), 404)
        cancelled = (await alice.get(f"/executions/{execution_id}")).json()
    assert (cancelled["status"], cancelled["reason"]) == ("cancelled", "job_deleted")
    assert store.count("jobs") == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/{job}"),
        ("PATCH", "/jobs/{job}"),
        ("PUT", "/jobs/{job}"),
        ("POST", "/jobs/{job}/activate"),
        ("POST", "/jobs/{job}/deactivate"),
        ("POST", "/jobs/{job}/execute"),
        ("POST", "/jobs/{job}/backfill"),
        ("GET", "/jobs/{job}/schedules"),
        ("GET", "/jobs/{job}/next-runs"),
        ("GET", "/jobs/{job}/why?at=2026-01-01T00:00:00Z"),
        ("GET", "/schedules/{schedule}"),
        ("DELETE", "/schedules/{schedule}"),
    ],
)
async def test_a_request_on_an_unreadable_job_says_what_to_do(
    api: Api, store: Store, method: str, path: str
) -> None:
    job, _ = await add_items(api, store, {"parameters": REFERENCE})
    bodies: Document = {
        "PATCH": {"description": "x"},
        "PUT": {"description": "x"},
        "POST": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"}
        if "backfill" in path
        else None,
    }
    async with api.open_client("alice") as alice:
        response = await alice.request(
            method,
            path.format(job=job.id, schedule=job.schedules[0].id),
            json=bodies.get(method),
        )
    assert_unreadable(response, job.id)
    store.assert_paused(job)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/executions/{execution}"),
        ("POST", "/executions/{execution}/cancel"),
        ("POST", "/executions/{execution}/retry"),
    ],
)
async def test_a_request_on_an_unreadable_execution_ends_it_and_says_so(
    api: Api, store: Store, method: str, path: str
) -> None:
    _, execution_id = await add_items(api, store, {})
    store.spoil("executions", execution_id, {"parameters": REFERENCE})
    async with api.open_client("alice") as alice:
        response = await alice.request(method, path.format(execution=execution_id))
    assert_unreadable(response, execution_id)
    found = store.read("executions", execution_id, "status", "reason")
    assert (found["status"], found["reason"]) == ("failed", "unreadable")


async def test_an_explanation_names_the_unreadable_record(api: Api, store: Store) -> None:
    job, _ = await add_items(api, store, {})
    api.clock.advance(MINUTE)
    await api.fire_due()
    recorded = [e for e in await api.list_executions({"id": job.id}) if e.schedule_id is not None]
    store.spoil("executions", recorded[0].id, {"created_at": "text"})
    at = recorded[0].scheduled_for.isoformat()
    async with api.open_client("alice") as alice:
        response = await alice.get(f"/jobs/{job.id}/why", params={"at": at})
    assert_unreadable(response, recorded[0].id)


async def test_a_retry_for_an_unreadable_job_is_rejected(api: Api, store: Store) -> None:
    job, execution_id = await add_items(api, store, {})
    async with api.open_client("alice") as alice:
        await alice.post(f"/executions/{execution_id}/cancel")
        store.spoil("jobs", job.id, {"parameters": REFERENCE})
        assert_unreadable(await alice.post(f"/executions/{execution_id}/retry"), job.id)
    assert store.count("executions") == 1


@pytest.mark.parametrize(
    "path", ["/jobs", "/jobs?tag=a", "/jobs?q=o", "/jobs?sort=name", "/executions"]
)
@pytest.mark.parametrize("username", ["alice", "admin"])
@pytest.mark.parametrize("fields", ["partial", "full"])
async def test_listings_leave_unreadable_documents_out_and_fill_their_pages(
    api: Api, store: Store, path: str, username: str, fields: str
) -> None:
    """A partial listing does not read `parameters`, so it shows what is malformed only there."""
    odd = {"parameters": REFERENCE} if fields == "full" else {"created_at": "yesterday"}
    ids = []
    async with api.open_client("alice") as alice:
        for n in range(7):
            job = await create_job(alice, name=f"o{n}", tags=["a"])
            execution = (await alice.post(f"/jobs/{job['id']}/execute")).json()
            ids.append((job["id"], execution["id"]))
    for job_id, execution_id in (ids[1], ids[2], ids[5]):
        store.spoil("jobs", job_id, odd)
        store.spoil("executions", execution_id, odd)
    which = 1 if path == "/executions" else 0
    healthy = {pair[which] for n, pair in enumerate(ids) if n not in {1, 2, 5}}
    listed: list[str] = []
    sizes: list[int] = []
    cursor: dict[str, str] = {}
    async with api.open_client(username) as client:
        while len(sizes) < 5:
            query: JsonBody = {**_query(path), "limit": 3, "fields": fields, **cursor}
            page = (await client.get(path, params=query)).json()
            listed += [item["id"] for item in page["items"]]
            sizes.append(len(page["items"]))
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
    assert (set(listed), len(listed), sizes) == (healthy, 4, [3, 1])


def _query(path: str) -> dict[str, str]:
    return dict(part.split("=") for part in path.partition("?")[2].split("&") if part)


async def test_an_unreadable_user_harms_only_their_own_requests(api: Api, store: Store) -> None:
    store.spoil("users", api.ids["bob"], {"role": "unknown", "username": "bob"})
    async with api.open_client("bob") as bob, api.open_client("alice") as alice:
        problem = assert_problem(await bob.get("/jobs"), 500)
        assert problem["type"] == "urn:carillon:problem:unreadable_document"
        assert api.ids["bob"] not in problem["detail"]
        assert (await alice.get("/jobs")).status_code == 200
    async with api.open_client() as nobody:
        form = {"username": "bob", "password": "wrong"}
        problem = assert_problem(await nobody.post("/token", data=form), 500)
        assert problem["type"] == "urn:carillon:problem:unreadable_document"


async def test_an_unreadable_idempotency_key_asks_for_another_key(api: Api, store: Store) -> None:
    body = {"name": "once"}
    async with api.open_client("alice", **{"Idempotency-Key": "k"}) as alice:
        assert (await alice.post("/jobs", json=body)).status_code == 201
        store.spoil("idempotency_keys", f"{api.ids['alice']}:k", {"response": 5})
        assert_unreadable(await alice.post("/jobs", json=body), "k")
        other = await alice.post("/jobs", json=body, headers={"Idempotency-Key": "other"})
        assert other.status_code == 201
    assert store.count("jobs") == 2


async def test_the_service_is_ready_with_odd_facts_about_the_database(
    api: Api, mongo_client: Client, database_name: str
) -> None:
    odd = {"_id": "schema", "schema_version": [5]}
    mongo_client[database_name]["meta"].insert_one(odd)
    async with api.open_client() as nobody:
        assert (await nobody.get("/health/ready")).status_code == 200
