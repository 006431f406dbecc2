"""Executions: execute a job, read its history and the executions of all jobs."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tests.support.api import Api, JsonBody, assert_names, assert_problem, create_job
from tests.support.clock import START


async def test_execute_without_a_body_queues_an_execution(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice)
    response = await alice.post(f"/jobs/{job['id']}/execute")
    assert response.status_code == 202
    execution = response.json()
    assert execution["kind"] == "manual"
    assert execution["status"] == "queued"
    assert execution["scheduled_for"] == execution["run_at"] == "2026-11-23T08:00:00Z"
    assert execution["parameters"] is None
    assert execution["attempts"] == []
    assert api.wake.executions.is_set()
    assert (await alice.get(f"/executions/{execution['id']}")).json() == execution


async def test_execute_accepts_other_parameters(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, parameters={"a": 1})
    response = await alice.post(f"/jobs/{job['id']}/execute", json={"parameters": {"b": 2}})
    assert response.json()["parameters"] == {"b": 2}


async def test_a_paused_job_can_be_executed(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, active=False)
    assert (await alice.post(f"/jobs/{job['id']}/execute")).status_code == 202


async def test_execute_allows_parallel_executions_by_default(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice)
    for _ in range(2):
        response = await alice.post(f"/jobs/{job['id']}/execute", json={})
        assert response.json()["status"] == "queued"


async def test_with_the_policy_skip_a_second_execution_is_recorded_as_skipped(
    alice: httpx2.AsyncClient,
) -> None:
    job = await create_job(alice)
    body = {"overlap_policy": "skip"}
    first = (await alice.post(f"/jobs/{job['id']}/execute", json=body)).json()
    second = (await alice.post(f"/jobs/{job['id']}/execute", json=body)).json()
    assert first["status"] == "queued"
    assert second["status"] == "skipped"
    assert second["reason"] == "overlap"
    assert second["finished_at"] is not None
    assert (await alice.get(f"/executions/{second['id']}")).json() == second


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"overlap_policy": "buffer_some"}, "/overlap_policy"),
        ({"parameters": [1]}, "/parameters"),
        ({"parameters": {"a": 2**70}}, "/parameters/a"),
        ({"run_at": "2027-01-01T00:00:00Z"}, "/run_at"),
    ],
)
async def test_an_invalid_execute_body_names_the_field(
    alice: httpx2.AsyncClient, body: JsonBody, pointer: str
) -> None:
    job = await create_job(alice)
    assert_names(await alice.post(f"/jobs/{job['id']}/execute", json=body), pointer)


async def test_history_has_the_newest_first_in_keyset_pages(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice)
    path = f"/jobs/{job['id']}"
    ids = []
    for i in range(5):
        if i % 2:
            api.clock.advance(timedelta(seconds=1))  # so that some have the same instant
        ids.append((await alice.post(f"{path}/execute")).json()["id"])
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await alice.get(f"{path}/executions", params=query)).json()
        assert len(page["items"]) <= 2
        seen += [execution["id"] for execution in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    expected = [e.id for e in reversed(await api.list_executions(job))]
    assert seen == expected
    assert sorted(seen) == sorted(ids)


async def test_history_can_be_filtered(api: Api, alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice)
    path = f"/jobs/{job['id']}"
    for _ in range(3):
        await alice.post(f"{path}/execute", json={"overlap_policy": "skip"})
        api.clock.advance(timedelta(minutes=1))

    async def count(**query: Any) -> int:
        return len((await alice.get(f"{path}/executions", params=query)).json()["items"])

    assert await count() == 3
    assert await count(status="queued") == 1
    assert await count(status=["queued", "skipped"]) == 3
    assert await count(status="failed") == 0
    assert await count(**{"from": (START + timedelta(minutes=1)).isoformat()}) == 2
    assert await count(to=(START + timedelta(minutes=1)).isoformat()) == 1


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"status": "broken"}, "/query/status/0"),
        ({"from": "yesterday"}, "/query/from"),
        ({"to": "0001-01-01T00:00:00Z"}, "/query/to"),
        ({"limit": 0}, "/query/limit"),
        ({"cursor": "WzEsMl0"}, "/query/cursor"),
        ({"cursor": "Wzk5OTk5OTk5OTk5OTk5OTk5LCIwIl0"}, "/query/cursor"),
        ({"since": "2026-11-23T08:00:00Z"}, "/query/since"),
    ],
)
async def test_an_invalid_query_names_the_parameter(
    alice: httpx2.AsyncClient, query: JsonBody, pointer: str
) -> None:
    job = await create_job(alice)
    assert_names(await alice.get(f"/jobs/{job['id']}/executions", params=query), pointer)


async def test_the_history_of_a_new_job_is_empty(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice)
    response = await alice.get(f"/jobs/{job['id']}/executions")
    assert response.json() == {"items": [], "next_cursor": None}


async def test_a_deleted_job_without_history_is_unknown(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice)
    await alice.delete(f"/jobs/{job['id']}")
    assert_problem(await alice.get(f"/jobs/{job['id']}/executions"), 404)


async def test_an_empty_page_of_a_deleted_jobs_history_is_not_a_404(
    alice: httpx2.AsyncClient,
) -> None:
    job = await create_job(alice)
    await alice.post(f"/jobs/{job['id']}/execute")
    await alice.delete(f"/jobs/{job['id']}")
    response = await alice.get(f"/jobs/{job['id']}/executions", params={"status": "succeeded"})
    assert response.json() == {"items": [], "next_cursor": None}


async def test_executions_are_listed_across_jobs(
    api: Api, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    jobs = [await create_job(alice, name=f"job {n}") for n in range(3)]
    executions = []
    for n in range(6):
        api.clock.advance(timedelta(minutes=1))
        executions.append((await alice.post(f"/jobs/{jobs[n % 3]['id']}/execute")).json())
    await alice.post(f"/executions/{executions[0]['id']}/cancel")
    newest_first = [execution["id"] for execution in reversed(executions)]

    async def list_ids(client: httpx2.AsyncClient, **params: Any) -> list[str]:
        found = (await client.get("/executions", params=params)).json()
        return [execution["id"] for execution in found["items"]]

    assert await list_ids(alice) == newest_first
    assert await list_ids(admin) == newest_first
    assert await list_ids(bob) == []
    assert await list_ids(alice, job_id=jobs[1]["id"]) == [newest_first[1], newest_first[4]]
    assert await list_ids(alice, status="cancelled") == [executions[0]["id"]]
    assert await list_ids(alice, status=["cancelled", "queued"]) == newest_first
    assert await list_ids(alice, kind="scheduled") == []
    since, until = executions[2]["scheduled_for"], executions[4]["scheduled_for"]
    assert await list_ids(alice, **{"from": since, "to": until}) == newest_first[2:4]


async def test_pages_continue_after_the_previous_one_and_keep_their_filters(
    alice: httpx2.AsyncClient,
) -> None:
    job = await create_job(alice)
    for _ in range(5):
        await alice.post(f"/jobs/{job['id']}/execute")  # at the same instant
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await alice.get("/executions", params=params)).json()
        seen += [execution["id"] for execution in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert len(set(seen)) == len(seen) == 5
    other = {"cursor": cursor, "status": "queued"}
    assert_problem(await alice.get("/executions", params=other), 422)
