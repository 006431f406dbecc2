"""Names that BSON or its driver interprets pass the API, the worker and targets unchanged."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest

from app.repositories.mongo import open_client
from app.targets.log import LogTarget
from app.targets.registry import TargetRegistry
from tests.support.api import Api, create_job
from tests.support.engine import Process, World, open_world
from tests.support.http_target import open_target
from tests.support.receiver import Receiver
from tests.support.resolvers import ListResolver

VALUES: dict[str, dict[str, Any]] = {
    "a reference": {"$ref": "a", "$id": "b"},
    "a reference with a database": {"$id": 1, "$ref": "a", "$db": "c", "more": [1.0, 1]},
    "nested references": {"list": [{"$ref": "a", "$id": {"$ref": "b", "$id": None}}]},
    "operators": {"$set": {"$where": "x"}, "$$NOW": "$name", "a.b": {"": 1}, "_id": 1, "id": 2},
    "extended JSON": {"$oid": "0" * 24, "$date": "2026-01-01", "$numberLong": "1"},
    "numbers": {"all": [1, 1.0, -0.0, 1e22, 2**63 - 1, -(2**63), 0.1]},
}
HEADERS = {"$ref": "a", "$id": "b", "$db": "c"}


@pytest.fixture
def database_name(emptied_database_name: str) -> str:
    return emptied_database_name


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def process(mongo_uri: str, database_name: str, api: Api) -> AsyncIterator[Process]:
    """A process with a scheduler and a worker, which sends real requests."""
    world: World = await open_world(mongo_uri, database_name, driver=open_client)
    async with open_target(resolver=ListResolver(["127.0.0.1"])) as http:
        world.targets = TargetRegistry(http=http, log=LogTarget())  # type: ignore[assignment]
        yield world.compose_process()
    await world.close()


@pytest.fixture(params=list(VALUES.values()), ids=list(VALUES))
def value(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.param
    return found


def name_url(receiver: Receiver) -> str:
    """Return a URL that the API accepts. The resolver of `process` knows its name."""
    return f"http://receiver.test:{receiver.port}/"


def dump(value: object) -> bytes:
    """Return a form in which 1 and 1.0, and other orders of keys, differ."""
    return orjson.dumps(value)


async def test_parameters_of_an_execution_reach_the_target_and_the_history(
    alice: httpx2.AsyncClient, receiver: Receiver, process: Process, value: dict[str, Any]
) -> None:
    """This request stopped every worker and reaper."""
    job = await create_job(alice, target={"type": "http", "url": name_url(receiver)})
    path = f"/jobs/{job['id']}/execute"
    executed = (await alice.post(path, json={"parameters": value})).json()
    other = (await alice.post(path)).json()
    await process.work()
    await process.reaper.tick()
    sent = {request.json()["execution_id"]: request.json() for request in receiver.requests}
    assert set(sent) == {executed["id"], other["id"]}
    assert dump(sent[executed["id"]]["parameters"]) == dump(value)
    found = (await alice.get(f"/executions/{executed['id']}")).json()
    assert (found["status"], dump(found["parameters"])) == ("succeeded", dump(value))
    listed = (await alice.get("/executions")).json()["items"]
    assert {item["id"] for item in listed} == set(sent)
    again = (await alice.post(f"/executions/{executed['id']}/retry")).json()
    assert dump(again["parameters"]) == dump(value)


async def test_a_job_with_such_names_is_read_edited_listed_executed_and_deleted(
    alice: httpx2.AsyncClient, receiver: Receiver, process: Process, value: dict[str, Any]
) -> None:
    target = {"type": "http", "url": name_url(receiver), "headers": HEADERS, "body": value}
    created = await create_job(alice, parameters=value, target=target, interval=60)
    path = f"/jobs/{created['id']}"
    job = (await alice.get(path)).json()
    assert dump(job["parameters"]) == dump(value)
    assert dump(job["target"]["body"]) == dump(value)
    assert job["target"]["headers"] == HEADERS
    back = {"parameters": job["parameters"], "target": job["target"]}
    edited = (await alice.put(path, json=back)).json()
    assert {**edited, "revision": 0, "updated_at": 0} == {**job, "revision": 0, "updated_at": 0}
    assert [item["id"] for item in (await alice.get("/jobs")).json()["items"]] == [job["id"]]
    await alice.post(f"{path}/execute")
    await process.work()
    (request,) = receiver.requests
    assert dump(request.json()) == dump(value)
    assert {name: request.headers[name] for name in HEADERS} == HEADERS
    assert (await alice.delete(path)).status_code == 204
    assert (await alice.get(path)).status_code == 404


@pytest.mark.parametrize("body", ["text", '"quoted"', "{", "", 0, False, [], {}], ids=repr)
async def test_each_kind_of_body_comes_back_as_it_was_sent(
    alice: httpx2.AsyncClient, body: object
) -> None:
    target = {"type": "http", "url": "http://receiver.test/", "body": body}
    job = await create_job(alice, target=target)
    read = (await alice.get(f"/jobs/{job['id']}")).json()
    assert dump(read["target"]["body"]) == dump(body)


async def test_headers_of_a_hostile_receiver_are_recorded_as_they_came(
    alice: httpx2.AsyncClient, receiver: Receiver, process: Process
) -> None:
    receiver.respond_with(200, headers=HEADERS)
    job = await create_job(alice, target={"type": "http", "url": name_url(receiver)})
    ids = [(await alice.post(f"/jobs/{job['id']}/execute")).json()["id"] for _ in range(2)]
    await process.work()
    for execution_id in ids:
        execution = (await alice.get(f"/executions/{execution_id}")).json()
        (attempt,) = execution["attempts"]
        assert execution["status"] == "succeeded"
        assert HEADERS.items() <= attempt["response"]["headers"].items()
    listing = await alice.get(f"/jobs/{job['id']}/executions")
    assert len(listing.json()["items"]) == 2
