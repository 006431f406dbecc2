"""Data of an earlier release is migrated and stays readable."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import DatetimeMS, Regex, encode, json_util
from bson.raw_bson import RawBSONDocument
from pymongo import IndexModel, MongoClient, _csot
from structlog.testing import capture_logs

from app.clock import SystemClock
from app.errors import UnavailableError
from app.models.execution import Execution, ExecutionStatus
from app.models.idempotency import StoredResponse
from app.models.user import Actor, Role
from app.repositories import migrations
from app.repositories.documents import SCHEMA_VERSION, from_document
from app.repositories.indexes import INDEXES, create_indexes, drop_retired_indexes
from app.repositories.meta import MetaRepository
from app.repositories.migrations import migrate
from app.repositories.mongo import Database, open_client
from app.runtime import Runtime, open_runtime
from app.schemas.executions import AllExecutionsQuery
from app.schemas.jobs import JobQuery
from app.settings import Settings
from tests.support.not_utf_8 import TOLERANT, spoil

DATA = Path(__file__).parent / "data" / "schema_1.json"
PASSWORD = "correct horse battery"
ADMIN = Actor(user_id="", username="", role=Role.ADMIN)

Document = dict[str, Any]
Collections = dict[str, list[Document]]
Client = MongoClient[Document]


@pytest.fixture
def stored(mongo_client: Client, database_name: str) -> Collections:
    """Restore the documents and indexes of the earlier release. Return the documents."""
    options = json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=True, tzinfo=UTC)
    data = json_util.loads(DATA.read_text(), json_options=options)
    database = mongo_client[database_name]
    for name, collection in data.items():
        indexes = [
            IndexModel([tuple(pair) for pair in index.pop("key")], **index)
            for index in collection["indexes"]
        ]
        database[name].create_indexes(indexes)
        database[name].insert_many(copy.deepcopy(collection["documents"]))
    return {name: collection["documents"] for name, collection in data.items()}


def read_all(client: Client, database_name: str) -> Collections:
    database = client[database_name]
    names = [name for name in database.list_collection_names() if name != "meta"]
    return {name: list(database[name].find()) for name in names}


def expected_after_migration(stored: Collections) -> Collections:
    """Return the documents that the migration must produce, computed without its code."""
    expected = copy.deepcopy(stored)
    for name, documents in expected.items():
        for document in documents:
            document["schema"] = 4 if name in {"jobs", "executions"} else 2
    for job in expected["jobs"]:
        job["parameters"] = to_text(job["parameters"])
        if "headers" in job["target"]:
            job["target"]["headers"] = to_pairs(job["target"]["headers"])
            body = job["target"]["body"]
            job["target"]["body"] = None if body is None else to_text(body)
    for execution in expected["executions"]:
        execution["waiting"] = execution.pop("held")
        if "parameters" in execution:
            execution["parameters"] = to_text(execution["parameters"])
        for attempt in execution["attempts"]:
            if attempt.get("response"):
                attempt["response"]["headers"] = to_pairs(attempt["response"]["headers"])
        execution.update(measure_responses(execution))
    for key in expected["idempotency_keys"]:
        key["response"] = key.pop("answer")
    return expected


def measure_responses(execution: Document) -> Document:
    """Return the bytes of the responses that have headers or a body, if there are any."""
    responses = [one["response"] for one in execution["attempts"] if one.get("response")]
    size = sum(len(encode(one)) for one in responses if one["headers"] or one["body"])
    return {"response_bytes": size} if size else {}


def to_text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def to_pairs(headers: dict[str, str]) -> list[Document]:
    return [{"k": name, "v": value} for name, value in headers.items()]


def index_by_id(collections: Collections) -> dict[str, dict[str, Document]]:
    return {
        name: {document["_id"]: document for document in documents}
        for name, documents in collections.items()
    }


@asynccontextmanager
async def open_database(uri: str, name: str) -> AsyncIterator[Database]:
    client = open_client(uri, timeout=timedelta(seconds=8))
    database = Database(client, name, clock=SystemClock())
    yield database
    await database.close()


@pytest.fixture
async def runtime(
    mongo_uri: str, database_name: str, redis_url: str, tmp_path: Path, stored: Collections
) -> AsyncIterator[Runtime]:
    """The service, opened on the stored data."""
    settings = Settings(
        _env_file=None,
        role="api",
        mongodb_uri=mongo_uri,
        mongodb_name=database_name,
        redis_url=redis_url,
        data_dir=tmp_path,
    )
    async with open_runtime(settings) as runtime:
        yield runtime


def test_the_data_contains_every_kind_of_document(stored: Collections) -> None:
    statuses = {execution["status"] for execution in stored["executions"]}
    assert statuses == {status.value for status in ExecutionStatus} - {"timed_out"}
    assert any(execution["held"] for execution in stored["executions"])
    types = {schedule["type"] for job in stored["jobs"] for schedule in job["schedules"]}
    assert types == {"cron", "interval", "one_time"}
    assert {key["answer"] is None for key in stored["idempotency_keys"]} == {True, False}
    assert len(stored["users"]) == 2


async def test_each_document_gets_its_current_shape(
    mongo_uri: str, database_name: str, mongo_client: Client, stored: Collections
) -> None:
    async with open_database(mongo_uri, database_name) as database:
        await migrate(database, meta=MetaRepository(database))
        meta = MetaRepository(database)
        assert await meta.get_schema_version() == SCHEMA_VERSION
        assert await meta.get_migrated_version() == SCHEMA_VERSION
    assert index_by_id(read_all(mongo_client, database_name)) == index_by_id(
        expected_after_migration(stored)
    )


async def test_simultaneous_migrations_give_the_same_result(
    mongo_uri: str,
    database_name: str,
    mongo_client: Client,
    stored: Collections,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(migrations, "_PAGE", 3)
    async with open_database(mongo_uri, database_name) as database:
        await asyncio.gather(*(migrate(database, meta=MetaRepository(database)) for _ in range(4)))
    assert index_by_id(read_all(mongo_client, database_name)) == index_by_id(
        expected_after_migration(stored)
    )


@pytest.mark.parametrize("pages", range(8))
async def test_another_process_finishes_a_migration_that_was_interrupted(
    mongo_uri: str,
    database_name: str,
    mongo_client: Client,
    stored: Collections,
    monkeypatch: pytest.MonkeyPatch,
    pages: int,
) -> None:
    monkeypatch.setattr(migrations, "_PAGE", 5)
    update, calls = migrations._update, 0

    async def fail_later(*args: Any) -> int:
        nonlocal calls
        calls += 1
        if calls > pages:
            raise UnavailableError("the process is killed here")
        return await update(*args)

    async with open_database(mongo_uri, database_name) as database:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "_update", fail_later)
            with pytest.raises(UnavailableError):
                await migrate(database, meta=MetaRepository(database))
        assert await MetaRepository(database).get_schema_version() == SCHEMA_VERSION
        await migrate(database, meta=MetaRepository(database))
    assert index_by_id(read_all(mongo_client, database_name)) == index_by_id(
        expected_after_migration(stored)
    )


async def test_a_page_that_takes_too_long_is_migrated_in_halves(
    mongo_uri: str, database_name: str, mongo_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    executions = mongo_client[database_name]["executions"]
    older: Document = {"parameters": None, "attempts": [], "waiting": False, "schema": 3}
    executions.insert_many([older | {"_id": f"{n:03}"} for n in range(400)])
    update, sizes = migrations._update, []

    async def update_at_most_60(documents: Any, query: Document, pipeline: list[Document]) -> int:
        """As an update that the time limit ends: what it has written stays."""
        ids = query["_id"]["$in"]
        sizes.append(len(ids))
        migrated = await update(documents, query | {"_id": {"$in": ids[:60]}}, pipeline)
        if len(ids) > 60:
            raise UnavailableError("the time limit")
        return migrated

    monkeypatch.setattr(migrations, "_update", update_at_most_60)
    async with open_database(mongo_uri, database_name) as database:
        await migrate(database, meta=MetaRepository(database))
    assert executions.count_documents({"schema": 4}) == 400
    assert [size for size in sizes if size > 50] == [400, 200, 100, 100, 200, 100, 100] * 3


async def test_a_finished_migration_is_repeated_only_on_request(
    mongo_uri: str, database_name: str, mongo_client: Client, stored: Collections
) -> None:
    """A process of the earlier release may write after the migration; `init-db` repeats it."""
    async with open_database(mongo_uri, database_name) as database:
        await migrate(database, meta=MetaRepository(database))
        late = {**stored["executions"][0], "_id": "f" * 32, "schedule_id": "late"}
        mongo_client[database_name]["executions"].insert_one(dict(late))
        await migrate(database, meta=MetaRepository(database))
        found = mongo_client[database_name]["executions"].find_one({"_id": late["_id"]})
        assert found == late
        await migrate(database, meta=MetaRepository(database), again=True)
        found = mongo_client[database_name]["executions"].find_one({"_id": late["_id"]})
        assert found is not None
        assert (found["waiting"], found["schema"]) == (late["held"], 4)


async def test_documents_of_a_newer_release_are_not_migrated(
    mongo_uri: str, database_name: str, mongo_client: Client
) -> None:
    newer = {"_id": "a", "schema": SCHEMA_VERSION + 1, "held": "of another meaning"}
    mongo_client[database_name]["executions"].insert_one(dict(newer))
    async with open_database(mongo_uri, database_name) as database:
        await migrate(database, meta=MetaRepository(database))
    assert mongo_client[database_name]["executions"].find_one() == newer


async def test_the_indexes_of_the_earlier_release_are_replaced(
    runtime: Runtime, mongo_uri: str, database_name: str, mongo_client: Client
) -> None:
    for name, indexes in INDEXES.items():
        existing = set(mongo_client[database_name][name].index_information()) - {"_id_"}
        assert existing == {index.document["name"] for index in indexes}
    async with open_database(mongo_uri, database_name) as database:
        await create_indexes(database)  # a second time changes nothing


async def test_users_sign_in_and_read_their_earlier_jobs_and_executions(
    runtime: Runtime, stored: Collections
) -> None:
    token = await runtime.auth.sign_in("admin", PASSWORD, address="127.0.0.1")
    admin = await runtime.auth.authenticate(token.token)
    jobs = await runtime.jobs.list_jobs(admin, JobQuery(limit=200))
    assert {job.id for job in jobs.items} == {job["_id"] for job in stored["jobs"]}
    for job in stored["jobs"]:
        read = await runtime.jobs.get(admin, job["_id"])
        assert (read.parameters, read.next_run) == (job["parameters"], job["next_run"])
    listing = await runtime.executions.list_all(admin, AllExecutionsQuery(limit=200))
    assert {e.id for e in listing.items} == {e["_id"] for e in stored["executions"]}
    waiting = {e.id for e in listing.items if e.waiting}
    assert waiting == {e["_id"] for e in stored["executions"] if e["held"]}


async def test_an_earlier_idempotency_key_returns_its_response(
    runtime: Runtime, stored: Collections
) -> None:
    for key in stored["idempotency_keys"]:
        found = await runtime.repositories.idempotency_keys.find(key["_id"])
        assert found is not None
        expected = key["answer"] and StoredResponse.model_validate(key["answer"])
        assert found.response == expected


async def test_earlier_executions_are_claimed_and_promoted(
    runtime: Runtime, database_name: str, mongo_client: Client, stored: Collections
) -> None:
    """The queued ones are claimed, and the waiting ones follow the live one in their order."""
    repositories = runtime.repositories
    (waiting_for,) = {e["job_id"] for e in stored["executions"] if e["held"]}
    live = next(e for e in stored["executions"] if e.get("live_for") == waiting_for)
    documents = mongo_client[database_name]["executions"]
    documents.update_one({"_id": live["_id"]}, {"$set": {"status": "queued"}})
    assert await runtime.executions.cancel(ADMIN, live["_id"])
    queued = [e for e in stored["executions"] if e["held"] and e["status"] == "queued"]
    first = min(queued, key=lambda e: e["scheduled_for"])
    promoted = documents.find_one({"_id": first["_id"]})
    assert promoted is not None
    assert (promoted["waiting"], promoted["live_for"]) == (False, waiting_for)
    claimed = await repositories.leases.claim({first["owner_id"]: 100})
    assert first["_id"] in [execution.id for execution in claimed or ()]


def test_a_document_without_a_schema_number_is_of_the_first_schema(stored: Collections) -> None:
    document = dict(stored["executions"][0])  # from_document changes it
    assert "schema" not in document
    assert from_document(Execution, document).id == stored["executions"][0]["_id"]


async def test_schema_numbers_only_grow(mongo_uri: str, database_name: str) -> None:
    async with open_database(mongo_uri, database_name) as database:
        meta = MetaRepository(database)
        assert (await meta.get_schema_version(), await meta.get_migrated_version()) == (1, 1)
        await asyncio.gather(*(meta.raise_schema_version(n % 4) for n in range(24)))
        assert await meta.get_schema_version() == 3
        await meta.raise_schema_version(2)
        assert await meta.get_schema_version() == 3


async def test_retired_indexes_are_dropped_once(
    mongo_uri: str, database_name: str, mongo_client: Client
) -> None:
    async with open_database(mongo_uri, database_name) as database:
        await create_indexes(database)
        executions = mongo_client[database_name]["executions"]
        executions.create_index("held", name="claim")
        executions.create_index(
            ["status", "waiting", "run_at"],
            name="claimable",
            partialFilterExpression={"status": "queued"},
        )
        await asyncio.gather(*(drop_retired_indexes(database) for _ in range(3)))
        assert not {"claim", "claimable"} & executions.index_information().keys()
        assert "claimable_by_owner" in executions.index_information()
        await drop_retired_indexes(database)


async def test_an_index_may_take_longer_to_build_than_other_calls(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server aborts a build at the limit of its call, so a limit could never be met."""
    limits: list[float | None] = []

    class Collection:
        async def create_indexes(self, indexes: object) -> None:
            limits.append(_csot.get_timeout())

    async with open_database(mongo_uri, database_name) as database:
        monkeypatch.setattr(database, "collection", lambda _: Collection())
        await create_indexes(database)
    assert set(limits) == {None}
    assert _csot.get_timeout() is None


@pytest.mark.parametrize(
    "document",
    [
        {"held": True},
        {"waiting": True},
        {"waiting": True, "held": True},
    ],
)
async def test_a_step_keeps_the_value_under_either_name(
    mongo_uri: str, database_name: str, mongo_client: Client, document: Document
) -> None:
    executions = mongo_client[database_name]["executions"]
    executions.insert_many([{"_id": "a", **document}, {"_id": "b"}])
    async with open_database(mongo_uri, database_name) as database:
        await migrate(database, meta=MetaRepository(database))
    found = [(e["_id"], e["waiting"], "held" in e) for e in executions.find()]
    assert sorted(found) == [("a", True, False), ("b", False, False)]


def make_earlier(id_: str, parameters: object) -> Document:
    return {"_id": id_, "schema": 2, "parameters": parameters, "attempts": [], "waiting": False}


async def migrate_and_list_schemas(
    uri: str, client: Client, name: str, documents: list[RawBSONDocument]
) -> tuple[dict[str, object], list[str]]:
    """Return the schema numbers by id, and the ids that are logged as not migrated."""
    client[name]["executions"].insert_many(documents)
    async with open_database(uri, name) as database:
        with capture_logs() as logs:
            await asyncio.wait_for(migrate(database, meta=MetaRepository(database)), 60)
        assert await MetaRepository(database).get_migrated_version() == SCHEMA_VERSION
    raw: Any = client[name]["executions"].with_options(codec_options=TOLERANT)
    schemas = {one["_id"]: one["schema"] for one in raw.find({}, {"schema": True})}
    not_migrated = [one for one in logs if one["event"] == "document_not_migrated"]
    return schemas, [one["document_id"] for one in not_migrated]


ODD_PARAMETERS: dict[str, object] = {
    "a date after the last year": {"at": DatetimeMS(2**60)},
    "a date after the last year in a list": [DatetimeMS(2**60)],
    "invalid UTF-8 in a value": {"a": "xyxyxy"},
    "invalid UTF-8 in a name": {"xyxyxy": 1},
    "invalid UTF-8 in a list": ["xyxyxy"],
    "invalid UTF-8 as the value": "xyxyxy",
    "a type that is not JSON": {"a": Regex("x")},
}


@pytest.mark.parametrize("odd", list(ODD_PARAMETERS.values()), ids=list(ODD_PARAMETERS))
async def test_a_malformed_document_does_not_stop_the_migration_of_the_others(
    mongo_uri: str, database_name: str, mongo_client: Client, odd: object
) -> None:
    documents = [make_earlier("a", {"n": 1}), make_earlier("b", odd), make_earlier("c", {"n": 1})]
    schemas, not_migrated = await migrate_and_list_schemas(
        mongo_uri, mongo_client, database_name, [spoil(one) for one in documents]
    )
    assert (schemas["a"], schemas["c"]) == (4, 4)
    # One with text that is not UTF-8 may be migrated as all clients read it.
    assert (schemas["b"], not_migrated) in [(2, ["b"]), (4, [])]


async def test_documents_that_become_too_large_do_not_stop_the_migration_of_the_others(
    mongo_uri: str, database_name: str, mongo_client: Client
) -> None:
    """One is larger than a statement as its value and its text, one has no room for a number."""
    large = make_earlier("b", {"a": "x" * 9_000_000})
    full: Document = make_earlier("d", None) | {"unknown": "", "attempts": []}
    full["attempts"] = [{"number": 1, "response": {"headers": {"a": "b"}}}]
    full["unknown"] = "x" * (16 * 1024 * 1024 - len(encode(full)))
    others = [make_earlier(id_, {"n": 1}) for id_ in "ace"]
    mongo_client.admin.command("fsync")  # else the cache may have no room for them
    schemas, not_migrated = await migrate_and_list_schemas(
        mongo_uri, mongo_client, database_name, [spoil(one) for one in (large, full, *others)]
    )
    assert schemas == {"a": 4, "b": 2, "c": 4, "d": 2, "e": 4}
    assert set(not_migrated) == {"b", "d"}


async def test_a_malformed_id_does_not_make_the_migration_endless(
    mongo_uri: str, database_name: str, mongo_client: Client
) -> None:
    """No query finds it, because the driver replaces the bytes."""
    documents = [make_earlier(id_, {"n": 1}) for id_ in ("a", "xyxyxy", "xyxyxy2")]
    schemas, _ = await migrate_and_list_schemas(
        mongo_uri, mongo_client, database_name, [spoil(one) for one in documents]
    )
    assert schemas["a"] == 4


async def test_responses_of_an_earlier_release_are_shortened_and_measured(
    mongo_uri: str, database_name: str, mongo_client: Client
) -> None:
    """An execution that had more than three attempts keeps 16 KB of the earlier ones."""

    def make_response(body: str) -> Document:
        return {"status": 500, "headers": [{"k": "a", "v": "b"}], "body": body, "truncated": False}

    attempts = [
        {"number": n, "job_revision": 1, "response": make_response("x" * 60_000)}
        for n in range(1, 41)
    ]
    without: list[Document] = [{"number": 1, "job_revision": 1, "response": None}]
    executions = mongo_client[database_name]["executions"]
    for id_, stored in (("large", attempts), ("small", attempts[:1]), ("without", without)):
        execution = {"_id": id_, "schema": 3, "parameters": None, "attempts": stored}
        executions.insert_one(execution | {"waiting": False})
    executions.insert_one({"_id": "odd", "schema": 3, "attempts": [1, {"response": 2}, {}, {}]})
    async with open_database(mongo_uri, database_name) as database:
        await migrate(database, meta=MetaRepository(database))
    found = {one["_id"]: one for one in executions.find()}
    bodies = [len(one["response"]["body"]) for one in found["large"]["attempts"]]
    assert bodies == [16_384] + [0] * 36 + [60_000] * 3
    assert found["large"]["attempts"][36]["response"]["truncated_reason"] == "earlier_attempt"
    assert 196_384 < found["large"]["response_bytes"] < 197_500
    assert found["small"]["attempts"] == attempts[:1]
    assert found["small"]["response_bytes"] == len(encode(make_response("x" * 60_000)))
    assert "response_bytes" not in found["without"]
    assert {one["schema"] for one in found.values()} == {4}
