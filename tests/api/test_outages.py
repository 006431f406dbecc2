"""Outages: without the database a 503 in time, without Redis a slower correct response."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from time import perf_counter

import httpx2
import pytest

from app.cache import Cache
from app.repositories.mongo import Database, open_client
from app.settings import Settings
from tests.support.api import PASSWORD, Api, assert_problem, open_api

MOST_SECONDS = 10.0
ROUTES = [
    ("POST", "/jobs"),
    ("GET", "/jobs"),
    ("GET", "/jobs/{id}"),
    ("PATCH", "/jobs/{id}"),
    ("DELETE", "/jobs/{id}"),
    ("POST", "/jobs/{id}/execute"),
    ("GET", "/jobs/{id}/executions"),
    ("POST", "/token"),
]


@pytest.fixture
async def cut_off(api: Api) -> AsyncIterator[Api]:
    """The API after an outage of its database: all collections are on a closed port."""
    timeout = Settings(_env_file=None).mongodb_timeout
    nowhere = Database(
        open_client("mongodb://127.0.0.1:1/?directConnection=true", timeout=timeout),
        api.database._database.name,
        clock=api.clock,
    )
    client, database = api.database._client, api.database._database
    api.database._client, api.database._database = nowhere._client, nowhere._database
    for repository, name, field in (
        (api.jobs, "jobs", "_jobs"),
        (api.executions, "executions", "_executions"),
        (api.users, "users", "_users"),
        (api.runtime.idempotency._keys, "idempotency_keys", "_keys"),
    ):
        setattr(repository, field, nowhere.collection(name))
    yield api
    await nowhere.close()
    api.database._client, api.database._database = client, database


@pytest.mark.slow
async def test_every_route_is_a_503_in_time_while_the_database_is_down(cut_off: Api) -> None:
    async with cut_off.client("alice") as alice:

        async def ask(method: str, path: str) -> tuple[httpx2.Response, float]:
            begun = perf_counter()
            path = path.format(id="0" * 32)
            if path == "/token":
                form = {"username": "alice", "password": PASSWORD}
                response = await alice.post(path, data=form)
            else:
                body = {"name": "x"} if method in {"POST", "PATCH"} else None
                response = await alice.request(
                    method, path, json=body, headers={"Idempotency-Key": "k", "X-Request-ID": "r"}
                )
            return response, perf_counter() - begun

        for response, seconds in await asyncio.gather(*(ask(*route) for route in ROUTES)):
            body = assert_problem(response, 503)
            assert body["type"] == "urn:carillon:problem:unavailable"
            assert int(response.headers["retry-after"]) > 0
            assert seconds < MOST_SECONDS


async def test_responses_stay_correct_when_redis_fails(api: Api, alice: httpx2.AsyncClient) -> None:
    path = f"/jobs/{(await alice.post('/jobs', json={'name': 'one'})).json()['id']}"
    for known in (path, "/jobs"):
        assert (await alice.get(known)).status_code == 200
    cache: Cache = api.runtime.cached_jobs._cache
    cache._redis.connection_pool.connection_kwargs["port"] = 1
    await cache._redis.connection_pool.disconnect()
    assert (await alice.get(path)).json()["name"] == "one"
    etag = (await alice.patch(path, json={"name": "two"})).headers["etag"]
    read = await alice.get(path)
    assert (read.json()["name"], read.headers["etag"]) == ("two", etag)
    assert [job["name"] for job in (await alice.get("/jobs")).json()["items"]] == ["two"]
    api.clock.advance(timedelta(seconds=61))
    assert (await alice.get(path)).json()["name"] == "two"


async def test_every_kind_of_write_shows_immediately_in_another_process(
    api: Api, alice: httpx2.AsyncClient, mongo_uri: str, database_name: str, redis_url: str
) -> None:
    users = api.database.collection("users")
    stored = await users.find().to_list(None)
    await users.delete_many({})
    async with open_api(mongo_uri, database_name, redis_url) as other:
        await users.delete_many({})
        await users.insert_many(stored)
        other.ids = api.ids
        async with other.client("alice") as elsewhere, api.client("admin") as admin:
            path = f"/jobs/{(await alice.post('/jobs', json={'name': 'one'})).json()['id']}"

            async def seen() -> list[list[tuple[str, bool]]]:
                return [
                    [(j["name"], j["active"]) for j in (await c.get("/jobs")).json()["items"]]
                    for c in (alice, elsewhere, admin)
                ]

            assert await seen() == [[("one", True)]] * 3
            await elsewhere.patch(path, json={"name": "two"})
            assert await seen() == [[("two", True)]] * 3
            await alice.post(f"{path}/deactivate")
            assert await seen() == [[("two", False)]] * 3
            assert (await elsewhere.get(path)).json()["active"] is False
            await elsewhere.delete(path)
            assert await seen() == [[]] * 3
            assert (await alice.get(path)).status_code == 404
