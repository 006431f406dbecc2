"""A job whose target calls the service does not start an endless chain."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.models.execution import Execution
from tests.support.api import Api, JsonBody, assert_problem

HOPS = "X-Carillon-Hops"
EXECUTE = "execute"
EDITS = ("PUT", "PATCH")
SOONER = {"interval_seconds": 30}
ROUTES: dict[str, tuple[str, str, JsonBody]] = {
    "create": ("POST", "/jobs", {"name": "another job"}),
    "execute": ("POST", "/jobs/{job}/execute", {}),
    "retry": ("POST", "/executions/{execution}/retry", {}),
    "backfill": ("POST", "/jobs/{job}/backfill", {}),
    "add a schedule": (
        "POST",
        "/jobs/{job}/schedules",
        {"type": "interval", "interval_seconds": 60},
    ),
    **{f"{method} a job": (method, "/jobs/{job}", {"interval": 30}) for method in EDITS},
    **{f"{method} a schedule": (method, "/schedules/{schedule}", SOONER) for method in EDITS},
}


@pytest.fixture
async def job(api: Api, alice: httpx2.AsyncClient) -> JsonBody:
    """A job with a slot every minute, five minutes ago."""
    response = await alice.post("/jobs", json={"name": "a job", "interval": 60})
    api.clock.advance(timedelta(minutes=5))
    created: JsonBody = response.json()
    return created


async def call(
    api: Api, client: httpx2.AsyncClient, route: str, job: JsonBody, hops: str | None
) -> httpx2.Response:
    method, path, body = ROUTES[route]
    execution = ""
    if route == "retry":
        skipped = await client.post(f"/jobs/{job['id']}/execute", json={"overlap_policy": "skip"})
        execution = skipped.json()["id"]
        assert (await client.post(f"/executions/{execution}/cancel")).status_code == 200
    if route == "backfill":
        now = api.clock.now()
        start = now - timedelta(minutes=4)
        body = {"start": start.isoformat(), "end": now.isoformat()}
    path = path.format(job=job["id"], execution=execution, schedule=job["schedules"][0]["id"])
    return await client.request(
        method, path, json=body, headers={} if hops is None else {HOPS: hops}
    )


async def list_stored(api: Api) -> list[Any]:
    names = ("jobs", "executions")
    return [[one async for one in api.database.collection(name).find()] for name in names]


@pytest.mark.parametrize("route", ROUTES)
async def test_a_request_with_more_than_one_hop_is_a_loop(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody, route: str
) -> None:
    for hops in (None, "0", "1"):
        assert (await call(api, alice, route, job, hops)).is_success
    for hops in ("2", "25", "999999999"):
        refused = await call(api, alice, route, job, hops)
        before = await list_stored(api)
        problem = assert_problem(refused, 508)
        assert problem["type"] == "urn:carillon:problem:loop"
        assert problem["title"] == "Targets call this service in a loop"
        assert f"{hops} hops" in problem["detail"]
        if route != "retry":
            assert await list_stored(api) == before


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("hops", ["", "-1", "+1", "1.0", "0x1", "1, 1", "1 1", "1" * 10, "one"])
async def test_a_malformed_number_of_hops_is_refused_by_its_name(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody, route: str, hops: str
) -> None:
    response = await call(api, alice, route, job, hops)
    (error,) = assert_problem(response, 422)["errors"]
    assert error["pointer"] == f"/header/{HOPS}"
    assert error["detail"] == "send a whole number of at most 9 digits"


async def test_two_headers_are_refused(alice: httpx2.AsyncClient) -> None:
    response = await alice.post("/jobs", json={"name": "a job"}, headers=[(HOPS, "0"), (HOPS, "1")])
    assert assert_problem(response, 422)["errors"][0]["pointer"] == f"/header/{HOPS}"


async def test_an_idempotency_key_of_a_loop_can_be_used_again(alice: httpx2.AsyncClient) -> None:
    key = {"Idempotency-Key": "a-key"}
    assert_problem(await alice.post("/jobs", json={"name": "one"}, headers=key | {HOPS: "2"}), 508)
    response = await alice.post("/jobs", json={"name": "another"}, headers=key)
    assert response.status_code == 201


async def read_execution(api: Api, response: httpx2.Response) -> Execution:
    return await api.executions.get(response.json()["id"], owner_id=None)


async def test_executions_have_the_hops_of_the_request_or_of_their_job(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    one_hop = {HOPS: "1"}
    created = (
        await alice.post("/jobs", json={"name": "a child", "interval": 60}, headers=one_hop)
    ).json()
    assert (await api.read_job(created)).hops == 1
    assert (await api.read_job(job)).hops == 0

    by_user = await call(api, alice, EXECUTE, created, None)
    by_hop = await call(api, alice, EXECUTE, job, "1")
    direct = await call(api, alice, EXECUTE, job, None)
    hops = [(await read_execution(api, one)).hops for one in (by_user, by_hop, direct)]
    assert hops == [1, 1, 0]

    api.clock.advance(timedelta(minutes=1))
    await api.fire_due()
    assert {e.hops for e in await api.list_executions(created) if e.kind == "scheduled"} == {1}
    assert {e.hops for e in await api.list_executions(job) if e.kind == "scheduled"} == {0}


async def test_a_retry_has_the_hops_of_what_it_retries_or_of_the_request(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    hops = []
    for first, second in (("1", None), (None, "1"), (None, None)):
        executed = (await call(api, alice, EXECUTE, job, first)).json()["id"]
        assert (await alice.post(f"/executions/{executed}/cancel")).status_code == 200
        headers = {} if second is None else {HOPS: second}
        retried = await alice.post(f"/executions/{executed}/retry", headers=headers)
        hops.append((await read_execution(api, retried)).hops)
    assert hops == [1, 1, 0]


async def test_a_backfill_has_the_hops_of_the_request_or_of_the_job(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    assert (await call(api, alice, "backfill", job, "1")).status_code == 202
    executions = await api.list_executions(job)
    assert len(executions) == 4
    assert {execution.hops for execution in executions} == {1}
    assert (await api.read_job(job)).hops == 0


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if "schedule" in route or "a job" in route]
)
async def test_a_job_that_its_own_target_edits_starts_no_chain(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody, route: str
) -> None:
    for hops in ("1", None):
        assert (await call(api, alice, route, job, hops)).is_success
        assert (await api.read_job(job)).hops == 1


@pytest.mark.parametrize("name", [HOPS, HOPS.lower()])
async def test_users_cannot_set_the_header(alice: httpx2.AsyncClient, name: str) -> None:
    target = {"type": "http", "url": "https://example.com/", "headers": {name: "0"}}
    response = await alice.post("/jobs", json={"name": "a job", "target": target})
    problem = assert_problem(response, 422)
    assert "the header x-carillon-hops is set by the service" in problem["detail"]


async def test_other_requests_may_come_through_any_number_of_targets(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    many = {HOPS: "5"}
    assert (await alice.get(f"/jobs/{job['id']}", headers=many)).status_code == 200
    assert (await alice.post(f"/jobs/{job['id']}/deactivate", headers=many)).status_code == 200
