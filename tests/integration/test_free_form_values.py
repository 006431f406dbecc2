"""Free-form values of users come back as they were sent, also those that were stored as objects."""

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Int64
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from app.clock import SystemClock
from app.models.execution import Execution
from app.models.job import Job
from app.models.target import HttpTargetSpec
from app.repositories import migrations
from app.repositories.documents import from_document, to_document
from app.repositories.executions import ExecutionRepository
from app.repositories.free_form import encode_json
from app.repositories.jobs import JobRepository
from app.repositories.meta import MetaRepository
from app.repositories.migrations import migrate
from app.repositories.mongo import Collection, Database, open_client

Document = dict[str, Any]
Client = MongoClient[Document]

NOW = datetime(2026, 11, 20, tzinfo=UTC)
REFERENCE = {
    "z": 1,
    "$id": "b",
    "$ref": "a",
    "$db": {"$ref": "a", "$id": [{"$ref": "c", "$id": 1}]},
}
ODD = {
    **REFERENCE,
    "": {"a.b": 1, "$set": {"$where": "1"}, "__proto__": None},
    "numbers": [1, 1.0, -0.0, 1e22, 5e-324, 2**63 - 1, -(2**63), 0.1],
    "text": '\u2028 \ufffd \U0001f600 " \\ </script>',
    "empty": [{}, [], "", False],
}
HEADERS = {"$ref": "a", "$id": "b", "X.Y": "$c", "": "d"}
BODIES = [REFERENCE, [REFERENCE], "text", '"quoted"', "", 0, False, {}, [], None]


def make_job(**changes: Any) -> Document:
    """Return a job as schema 2 stored it."""
    return {
        "_id": "job",
        "schema": 2,
        "owner_id": "owner",
        "name": "a job",
        "target": {"type": "http", "url": "http://a.test/", "headers": HEADERS, "body": REFERENCE},
        "parameters": ODD,
        "schedules": [],
        "revision": 1,
        "created_at": NOW,
        "updated_at": NOW,
        **changes,
    }


def make_execution(**changes: Any) -> Document:
    """Return an execution as schema 2 stored it."""
    response = {"status": 200, "headers": HEADERS, "body": "ok", "truncated": False}
    attempt = {"number": 1, "job_revision": 1, "started_at": NOW, "response": response}
    unfinished = {"number": 2, "job_revision": 1, "started_at": NOW}
    return {
        "_id": "execution",
        "schema": 2,
        "job_id": "job",
        "owner_id": "owner",
        "kind": "manual",
        "scheduled_for": NOW,
        "run_at": NOW,
        "status": "running",
        "waiting": False,
        "lease_token": 1,
        "attempts": [attempt, unfinished],
        "parameters": ODD,
        "created_at": NOW,
        **changes,
    }


def dump(value: object) -> str:
    """Return a form in which 1 and 1.0, 0.0 and -0.0, and other orders of keys differ."""
    return json.dumps(value)


async def migrate_all(database: Database, *, again: bool = False) -> None:
    await migrate(database, meta=MetaRepository(database), again=again)


@pytest.fixture
def database_name(emptied_database_name: str) -> str:
    return emptied_database_name


@pytest.fixture
async def database(mongo_uri: str, database_name: str) -> Any:
    database = Database(
        open_client(mongo_uri, timeout=timedelta(seconds=8)), database_name, clock=SystemClock()
    )
    yield database
    await database.close()


async def read_job(database: Database) -> Job:
    return await JobRepository(database).get("job", owner_id=None)


async def read_execution(database: Database) -> Execution:
    return await ExecutionRepository(database).get("execution", owner_id=None)


def test_a_stored_document_contains_no_name_of_a_user() -> None:
    job = Job.model_validate({**make_job(), "id": "job"})
    execution = Execution.model_validate({**make_execution(), "id": "execution"})
    chosen = {*ODD, *HEADERS, "a.b", "$set", "$where", "__proto__"}

    def names_in(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(names_in, value.values()))
        return set().union(*map(names_in, value)) if isinstance(value, list) else set()

    for record in (job, execution):
        document = json.loads(json.dumps(to_document(record), default=str))
        assert not names_in(document) & chosen


@pytest.mark.parametrize("body", BODIES, ids=str)
async def test_a_job_comes_back_as_it_was_stored(database: Database, body: object) -> None:
    target = HttpTargetSpec(url="http://a.test/", headers=HEADERS, body=body)
    job = Job(
        id="job",
        owner_id="owner",
        name="a job",
        target=target,
        parameters=ODD,
        created_at=NOW,
        updated_at=NOW,
    )
    await JobRepository(database).insert(job)
    read = await read_job(database)
    assert read == job
    assert dump(read.parameters) == dump(ODD)
    assert isinstance(read.target, HttpTargetSpec)
    assert (dump(read.target.body), dump(read.target.headers)) == (dump(body), dump(HEADERS))


@pytest.mark.parametrize("body", BODIES, ids=str)
async def test_a_job_that_was_stored_as_objects_survives_the_migration(
    database: Database, mongo_client: Client, database_name: str, body: object
) -> None:
    job = make_job()
    job["target"] = {**job["target"], "body": body}
    mongo_client[database_name]["jobs"].insert_one(copy.deepcopy(job))
    await migrate_all(database)
    read = await read_job(database)
    assert dump(read.parameters) == dump(ODD)
    assert isinstance(read.target, HttpTargetSpec)
    assert (dump(read.target.body), dump(read.target.headers)) == (dump(body), dump(HEADERS))
    stored = mongo_client[database_name]["jobs"].find_one()
    assert stored is not None
    assert stored["schema"] == 4
    assert to_document(read)["target"] == stored["target"] | to_document(read)["target"]


async def test_an_execution_that_was_stored_as_objects_survives_the_migration(
    database: Database, mongo_client: Client, database_name: str
) -> None:
    executions = mongo_client[database_name]["executions"]
    without = make_execution(_id="without", parameters=None)
    executions.insert_many([make_execution(), without])
    await migrate_all(database)
    read = await read_execution(database)
    assert dump(read.parameters) == dump(ODD)
    first, second = read.attempts
    assert (read.hops, read.response_bytes is None) == (0, False)
    assert first.response is not None
    assert (dump(first.response.headers), second.response) == (dump(HEADERS), None)
    assert [e["schema"] for e in executions.find()] == [4, 4]
    assert (await ExecutionRepository(database).get("without", owner_id=None)).parameters is None


async def test_an_edit_during_the_migration_is_not_overwritten(
    database: Database, mongo_client: Client, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of the earlier release stores other parameters between the read and the write."""
    jobs = mongo_client[database_name]["jobs"]
    jobs.insert_one(make_job())
    write, edits = migrations._write, [{"$ref": "edited", "$id": 1}]

    async def edit_before(documents: Collection, writes: Any) -> int:
        for parameters in edits[:1]:
            jobs.update_one({"_id": "job"}, {"$set": {"parameters": parameters}})
            edits.clear()
        return await write(documents, writes)

    monkeypatch.setattr(migrations, "_write", edit_before)
    await migrate_all(database)
    assert (await read_job(database)).parameters == {"$ref": "edited", "$id": 1}
    assert jobs.count_documents({"schema": 4}) == 1


async def test_a_value_that_another_process_has_migrated_is_not_written_as_text_again(
    database: Database, mongo_client: Client, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mongo_client[database_name]["jobs"].insert_one(make_job(target={"type": "log", "body": "x"}))
    write = migrations._write

    async def write_twice(documents: Collection, writes: Any) -> int:
        await write(documents, writes)
        return await write(documents, writes)

    monkeypatch.setattr(migrations, "_write", write_twice)
    await migrate_all(database)
    stored = mongo_client[database_name]["jobs"].find_one()
    assert stored is not None
    assert stored["target"]["body"] == '"x"'


async def test_an_execution_that_was_stored_after_the_migration_is_read_and_then_migrated(
    database: Database, mongo_client: Client, database_name: str
) -> None:
    """A process of the earlier release stored it. This release then adds headers as pairs."""
    await migrate_all(database)
    execution = make_execution(parameters={"a": 1})
    execution["attempts"][0]["response"]["headers"] = {"A": "b"}
    execution["attempts"][1]["response"] = {"status": 200, "headers": [{"k": "$ref", "v": "a"}]}
    mongo_client[database_name]["executions"].insert_one(execution)
    before = await read_execution(database)
    await migrate_all(database, again=True)
    migrated = await read_execution(database)
    assert migrated.model_copy(update={"response_bytes": None}) == before
    assert before.parameters == {"a": 1}
    assert [a.response.headers for a in before.attempts if a.response] == [
        {"A": "b"},
        {"$ref": "a"},
    ]


async def test_a_value_that_is_not_json_stays_and_harms_no_other_document(
    database: Database, mongo_client: Client, database_name: str
) -> None:
    odd = make_job(_id="a", parameters={"at": NOW}, target={"type": "log"})
    mongo_client[database_name]["jobs"].insert_many([odd, make_job()])
    await migrate_all(database)
    assert mongo_client[database_name]["jobs"].find_one({"_id": "a"}) == odd
    assert (await read_job(database)).parameters == ODD


def test_an_integer_of_64_bits_is_read_as_an_integer() -> None:
    raw = RawBSONDocument(b"\x10\x00\x00\x00\x12a\x00" + (2**62).to_bytes(8, "little") + b"\x00")
    value = migrations._to_json(raw)
    assert value == {"a": Int64(2**62)}
    assert encode_json(value) == f'{{"a":{2**62}}}'


def test_a_document_of_schema_2_is_read_as_it_is() -> None:
    job = make_job(parameters={"a": 1})
    job["target"] = {**job["target"], "body": "text", "headers": {"A": "b"}}
    read = from_document(Job, job)
    assert read.parameters == {"a": 1}
    assert isinstance(read.target, HttpTargetSpec)
    assert (read.target.body, read.target.headers) == ("text", {"A": "b"})
