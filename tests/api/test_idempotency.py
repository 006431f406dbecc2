"""Idempotency-Key: a repeated POST takes effect once and gets the same response."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.errors import UnavailableError
from tests.support.api import Api, JsonBody, assert_names, assert_problem, list_names

KEY = {"Idempotency-Key": "0d7e-first"}
NEW: JsonBody = {"name": "a job", "interval": 60}


def assert_replayed(response: httpx2.Response, first: httpx2.Response) -> None:
    assert response.headers["idempotency-replayed"] == "true"
    assert (response.status_code, response.content) == (first.status_code, first.content)
    for header in ("location", "etag", "content-type"):
        assert response.headers.get(header) == first.headers.get(header)
    assert response.headers["x-request-id"] != first.headers["x-request-id"]


async def test_a_repeated_request_creates_one_job_and_gets_the_same_response(
    alice: httpx2.AsyncClient,
) -> None:
    first = await alice.post("/jobs", json=NEW, headers=KEY)
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    path = first.headers["location"]
    assert (await alice.patch(path, json={"name": "renamed"})).status_code == 200
    for again in ("/jobs", "/jobs/", "/scheduler/jobs"):
        assert_replayed(await alice.post(again, json=NEW, headers=KEY), first)
    assert await list_names(alice) == ["renamed"]


async def test_a_repeated_execute_queues_one_execution(api: Api, alice: httpx2.AsyncClient) -> None:
    job = (await alice.post("/jobs", json=NEW)).json()
    path = f"/jobs/{job['id']}/execute"
    first = await alice.post(path, headers=KEY)
    assert first.status_code == 202
    assert_replayed(await alice.post(path, headers=KEY), first)
    assert len(await api.list_executions(job)) == 1


async def test_a_repeated_pause_has_no_second_effect(alice: httpx2.AsyncClient) -> None:
    path = f"/jobs/{(await alice.post('/jobs', json=NEW)).json()['id']}"
    first = await alice.post(f"{path}/deactivate", headers=KEY)
    await alice.post(f"{path}/activate")
    assert_replayed(await alice.post(f"{path}/deactivate", headers=KEY), first)
    assert (await alice.get(path)).json()["active"] is True


async def test_a_key_with_another_body_route_or_number_of_hops_is_a_409(
    alice: httpx2.AsyncClient,
) -> None:
    job = (await alice.post("/jobs", json=NEW, headers=KEY)).json()
    others = [
        alice.post("/jobs", json={**NEW, "name": "other"}, headers=KEY),
        alice.post("/jobs?x=1", json=NEW, headers=KEY),
        alice.post(f"/jobs/{job['id']}/execute", json=NEW, headers=KEY),
        alice.post(f"/jobs/{job['id']}/activate", headers=KEY),
        alice.post("/jobs", json=NEW, headers={**KEY, "X-Carillon-Hops": "1"}),
        alice.post("/jobs", json=NEW, headers={**KEY, "X-Carillon-Hops": "no number"}),
    ]
    for other in others:
        assert_problem(await other, 409)
    assert await list_names(alice) == ["a job"]


async def test_users_can_use_the_same_key(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    first = await alice.post("/jobs", json=NEW, headers=KEY)
    second = await bob.post("/jobs", json=NEW, headers=KEY)
    assert second.status_code == 201
    assert first.json()["id"] != second.json()["id"]


async def test_a_key_is_valid_for_a_day(api: Api, alice: httpx2.AsyncClient) -> None:
    first = await alice.post("/jobs", json=NEW, headers=KEY)
    api.clock.advance(timedelta(hours=23, minutes=59))
    async with api.open_client("alice") as later:
        assert_replayed(await later.post("/jobs", json=NEW, headers=KEY), first)
        api.clock.advance(timedelta(minutes=2))
    async with api.open_client("alice") as later:
        response = await later.post("/jobs", json={**NEW, "name": "other"}, headers=KEY)
        assert response.status_code == 201
        assert sorted(await list_names(later)) == ["a job", "other"]


async def test_the_database_deletes_expired_keys(api: Api) -> None:
    indexes = await api.database.collection("idempotency_keys").index_information()
    [expiry] = [index for index in indexes.values() if "expireAfterSeconds" in index]
    assert (expiry["key"], expiry["expireAfterSeconds"]) == ([("expires_at", 1)], 0)


async def test_one_of_many_simultaneous_requests_takes_effect(
    alice: httpx2.AsyncClient,
) -> None:
    responses = await asyncio.gather(
        *(alice.post("/jobs", json=NEW, headers=KEY) for _ in range(12))
    )
    ids = {response.json()["id"] for response in responses if response.status_code == 201}
    assert len(ids) == 1
    for response in responses:
        if response.status_code != 201:
            assert assert_problem(response, 409)["type"] == "urn:carillon:problem:still_running"
            assert response.headers["retry-after"] == "1"
    assert await list_names(alice) == ["a job"]
    assert (await alice.post("/jobs", json=NEW, headers=KEY)).json()["id"] in ids


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "é", "\x7f", "a\tb"])
async def test_an_invalid_key_is_rejected(alice: httpx2.AsyncClient, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    assert_names(await alice.post("/jobs", json=NEW, headers=headers), "/header/Idempotency-Key")
    assert await list_names(alice) == []


async def test_the_longest_key_and_unusual_characters_are_accepted(
    alice: httpx2.AsyncClient,
) -> None:
    for key in ("x" * 255, '$a.b:"{}"'):
        first = await alice.post("/jobs", json=NEW, headers={"Idempotency-Key": key})
        again = await alice.post("/jobs", json=NEW, headers={"Idempotency-Key": key})
        assert_replayed(again, first)


async def test_a_rejected_request_leaves_the_key_free(
    alice: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    assert_problem(await alice.post("/jobs", json={"nome": "x"}, headers=KEY), 422)
    assert_problem(await alice.post("/jobs", content=b"x", headers=KEY), 415)
    past = {"name": "x", "schedules": [{"type": "one_time", "run_at": "2026-01-01T00:00:00Z"}]}
    assert_problem(await alice.post("/jobs", json=past, headers=KEY), 422)
    assert_problem(await viewer.post("/jobs", json=NEW, headers=KEY), 403)
    assert (await alice.post("/jobs", json=NEW, headers=KEY)).status_code == 201


async def test_a_404_and_a_409_are_stored_responses(alice: httpx2.AsyncClient) -> None:
    path = f"/jobs/{'0' * 32}/execute"
    first = await alice.post(path, headers=KEY)
    assert_problem(first, 404)
    assert_replayed(await alice.post(path, headers=KEY), first)
    job = (await alice.post("/jobs", json=NEW)).json()
    execution = (await alice.post(f"/jobs/{job['id']}/execute")).json()
    path = f"/executions/{execution['id']}/retry"
    headers = {"Idempotency-Key": "another"}
    first = await alice.post(path, headers=headers)
    assert_problem(first, 409)
    assert_replayed(await alice.post(path, headers=headers), first)


async def test_the_key_is_free_after_a_412_or_a_409_with_a_retry_after_header(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (await alice.post("/jobs", json=NEW)).json()
    path = f"/jobs/{job['id']}/deactivate"
    assert_problem(await alice.post(path, headers=KEY | {"If-Match": '"7-0"'}), 412)

    async def lose(*_: Any, **__: Any) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(api.jobs, "replace", lose)
        busy = await alice.post(path, headers=KEY)
        assert assert_problem(busy, 409)["type"] == "urn:carillon:problem:busy"
        assert busy.headers["retry-after"] == "1"
    assert (await alice.post(path, headers=KEY)).status_code == 200


async def test_a_request_repeated_after_a_lost_response_finds_the_schedule_despite_if_match(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await alice.post("/jobs", json=NEW)
    path = f"/jobs/{created.json()['id']}/schedules"
    headers = KEY | {"If-Match": created.headers["etag"]}
    schedule = {"type": "interval", "interval_seconds": 60}
    replace = api.jobs.replace

    async def replace_and_lose_the_response(*args: Any, **named: Any) -> None:
        await replace(*args, **named)
        raise UnavailableError("The database does not respond.")

    with monkeypatch.context() as patch:
        patch.setattr(api.jobs, "replace", replace_and_lose_the_response)
        assert_problem(await alice.post(path, json=schedule, headers=headers), 503)
    again = await alice.post(path, json=schedule, headers=headers)
    assert again.status_code == 201
    stored = (await alice.get(path)).json()["items"]
    assert [one["id"] for one in stored].count(again.json()["id"]) == 1


@pytest.mark.parametrize("route", ["create", "execute"])
async def test_a_request_repeated_after_an_outage_does_not_repeat_the_write(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    job = (await alice.post("/jobs", json={"name": "a stored job"})).json()
    repository: Any = api.jobs if route == "create" else api.executions
    method = "insert" if route == "create" else "insert_many"
    path, body = ("/jobs", NEW) if route == "create" else (f"/jobs/{job['id']}/execute", {})
    insert = getattr(repository, method)

    async def lose_the_response(records: Any) -> Any:
        await insert(records)
        raise UnavailableError("The database does not respond.")

    monkeypatch.setattr(repository, method, lose_the_response)
    assert_problem(await alice.post(path, json=body, headers=KEY), 503)
    monkeypatch.undo()
    first = await alice.post(path, json=body, headers=KEY)
    assert first.is_success
    assert_replayed(await alice.post(path, json=body, headers=KEY), first)
    assert len(await list_names(alice)) == (2 if route == "create" else 1)
    assert len(await api.list_executions(job)) == (0 if route == "create" else 1)


async def test_after_a_crash_the_key_is_reserved_for_a_minute_and_nothing_is_repeated(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed after the insert: it stores no response and does not free the key."""

    async def skip_finish(*_: Any) -> None:
        return None

    once = {"type": "one_time", "run_at": "2026-11-23T08:00:30Z"}
    body = {"name": "once", "schedules": [once]}
    with monkeypatch.context() as patch:
        patch.setattr(api.runtime.idempotency, "finish", skip_finish)
        created = (await alice.post("/jobs", json=body, headers=KEY)).json()
    api.clock.advance(timedelta(seconds=59))
    assert_problem(await alice.post("/jobs", json=body, headers=KEY), 409)
    api.clock.advance(timedelta(seconds=2))
    response = await alice.post("/jobs", json=body, headers=KEY)  # run_at is in the past now
    assert response.status_code == 201
    assert response.json() == created
    assert await list_names(alice) == ["once"]


async def test_a_slow_request_and_its_repetition_create_one_job(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reservation ends while the first request has not inserted the job yet."""
    insert = api.jobs.insert
    hanging, go_on = asyncio.Event(), asyncio.Event()

    async def hang(job: Any) -> bool:
        monkeypatch.undo()
        hanging.set()
        await go_on.wait()
        return await insert(job)

    monkeypatch.setattr(api.jobs, "insert", hang)
    slow = asyncio.create_task(alice.post("/jobs", json=NEW, headers=KEY))
    await hanging.wait()
    api.clock.advance(timedelta(seconds=61))
    second = await alice.post("/jobs", json=NEW, headers=KEY)
    go_on.set()
    assert (await slow).json()["id"] == second.json()["id"]
    assert await list_names(alice) == ["a job"]


async def test_after_an_unexpected_error_the_request_can_be_sent_again(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Any) -> bool:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(api.jobs, "insert", fail)
        assert_problem(await alice.post("/jobs", json=NEW, headers=KEY), 500)
    assert (await alice.post("/jobs", json=NEW, headers=KEY)).status_code == 201


async def test_an_outage_while_the_response_is_stored_does_not_change_the_response(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> bool:
        raise UnavailableError("The database does not respond.")

    monkeypatch.setattr(api.runtime.idempotency._keys, "store_response", fail)
    assert (await alice.post("/jobs", json=NEW, headers=KEY)).status_code == 201


async def test_signing_in_ignores_keys(api: Api, nobody: httpx2.AsyncClient) -> None:
    form = {"username": "alice", "password": "wrong password"}
    for _ in range(2):
        response = await nobody.post("/token", data=form, headers=KEY)
        assert_problem(response, 401)
        assert "idempotency-replayed" not in response.headers
    assert await api.database.collection("idempotency_keys").count_documents({}) == 0


async def test_every_post_that_needs_a_token_documents_the_key(api: Api) -> None:
    for path, operations in api.app.openapi()["paths"].items():
        for method, operation in operations.items():
            named = {one["name"] for one in operation.get("parameters", ())}
            takes_key = method == "post" and path != "/token"
            assert ("Idempotency-Key" in named) is takes_key, path
