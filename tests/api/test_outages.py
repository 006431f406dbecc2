"""Without the database every request gets a 503 in time. Without Redis the responses are correct,
but slower."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from time import perf_counter

import httpx2
import pytest

from app.cache import Cache
from app.repositories.mongo import Database, open_client
from app.settings import Settings
from tests.support.api import Api, assert_problem, list_names, open_api
from tests.support.service import PASSWORD

MOST_SECONDS = 10.0
MANY = 200
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
async def api_without_database(api: Api) -> AsyncIterator[Api]:
    """The API in an outage of its database: all collections are on a closed port."""
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
async def test_requests_get_a_503_in_time_while_the_database_is_down(
    api_without_database: Api,
) -> None:
    async with api_without_database.open_client("alice") as alice:

        async def send(method: str, path: str) -> tuple[httpx2.Response, float]:
            started = perf_counter()
            path = path.format(id="0" * 32)
            if path == "/token":
                form = {"username": "alice", "password": PASSWORD}
                response = await alice.post(path, data=form)
            else:
                body = {"name": "x"} if method in {"POST", "PATCH"} else None
                response = await alice.request(
                    method, path, json=body, headers={"Idempotency-Key": "k", "X-Request-ID": "r"}
                )
            return response, perf_counter() - started

        for response, seconds in await asyncio.gather(*(send(*route) for route in ROUTES)):
            body = assert_problem(response, 503)
            assert body["type"] == "urn:carillon:problem:unavailable"
            assert int(response.headers["retry-after"]) > 0
            assert seconds < MOST_SECONDS


@pytest.mark.slow
async def test_any_number_of_requests_get_a_503_in_time_while_the_primary_is_frozen(
    own_mongo_uri: str, redis_url: str
) -> None:
    """More requests than the client has threads and connections, each with several calls."""
    async with open_api(own_mongo_uri, "frozen", redis_url) as api:
        pid = (await api.database._database.client.admin.command("serverStatus"))["pid"]
        async with api.open_client("alice") as alice:

            async def send(number: int) -> tuple[httpx2.Response, float]:
                started = perf_counter()
                response = await alice.post("/jobs", json={"name": str(number)})
                return response, perf_counter() - started

            os.kill(pid, signal.SIGSTOP)
            try:
                responses = await asyncio.gather(*map(send, range(MANY)))
            finally:
                os.kill(pid, signal.SIGCONT)
            for response, seconds in responses:
                assert "unknown whether" in assert_problem(response, 503)["detail"]
                assert int(response.headers["retry-after"]) > 0
                assert seconds < MOST_SECONDS
            assert (await alice.post("/jobs", json={"name": "afterwards"})).status_code == 201


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
    assert await list_names(alice) == ["two"]
    api.clock.advance(timedelta(seconds=61))
    assert (await alice.get(path)).json()["name"] == "two"
