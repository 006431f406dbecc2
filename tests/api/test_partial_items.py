"""Listings: items without their large fields, whole items with `fields=full`, and large pages."""

import copy
import json
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.models.execution import TargetResponse
from app.models.page import PAGE_BYTES
from app.repositories.jobs import JobRepository
from app.schemas.executions import AttemptOut, ExecutionOut, PartialAttempt, PartialExecutionOut
from app.schemas.executions import PartialTargetResponse as PartialResponse
from app.schemas.jobs import JobOut, PartialJobOut
from app.schemas.targets import PartialHttpTarget
from tests.support.api import Api, JsonBody, assert_names, create_job

TARGET = {"type": "http", "url": "https://a.test/", "headers": {"X-A": "b"}, "body": {"c": 1}}
LARGE = {"a": "x" * 60_000}


@pytest.fixture
async def job(alice: httpx2.AsyncClient) -> JsonBody:
    return await create_job(alice, interval=60, target=TARGET, parameters={"d": 2}, tags=["e"])


@pytest.fixture
async def execution(api: Api, alice: httpx2.AsyncClient, job: JsonBody) -> JsonBody:
    """A finished execution with two attempts, of which one has a response."""
    path = f"/jobs/{job['id']}/execute"
    queued = (await alice.post(path, json={"parameters": {"f": 3}})).json()
    now = api.clock.now()
    response = {"status": 200, "headers": [{"k": "X", "v": "y"}], "body": "z", "truncated": True}
    tries = [
        {"number": 1, "job_revision": 1, "started_at": now, "error": "no", "outcome": "failed"},
        {"number": 2, "job_revision": 1, "started_at": now, "response": response},
    ]
    changes = {"attempts": tries, "status": "succeeded", "finished_at": now}
    stored = api.database.collection("executions")
    await stored.update_one({"_id": queued["id"]}, {"$set": changes})
    found: JsonBody = (await alice.get(f"/executions/{queued['id']}")).json()
    return found


@pytest.fixture
async def large_jobs(alice: httpx2.AsyncClient, api: Api) -> list[JsonBody]:
    """Fifty jobs, the newest first, that do not fit on one page."""
    jobs = []
    for n in range(50):
        api.clock.advance(timedelta(milliseconds=1))
        target = {**TARGET, "body": {"n": n, "b": "x" * 30_000}}
        jobs.append(await create_job(alice, target=target, parameters=LARGE))
    return jobs[::-1]


async def list_items(client: httpx2.AsyncClient, path: str, **query: Any) -> list[JsonBody]:
    page = (await client.get(path, params=query)).json()
    assert page["next_cursor"] is None
    items: list[JsonBody] = page["items"]
    return items


def without_large_fields(item: JsonBody) -> JsonBody:
    """The partial form of a job or an execution that was read by its id."""
    partial = copy.deepcopy(item) | {"partial": True}
    del partial["parameters"]
    responses = [attempt["response"] for attempt in partial.get("attempts", [])]
    for large in [*responses, partial.get("target")]:
        if large is not None:
            large.pop("headers", None)
            large.pop("body", None)
    return partial


async def test_a_listing_of_jobs_leaves_large_fields_out(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    plain = await create_job(alice)
    items = {item["id"]: item for item in await list_items(alice, "/jobs")}
    assert items == {one["id"]: without_large_fields(one) for one in (job, plain)}
    assert items[job["id"]]["target"].keys() == {"type", "method", "url", "success_statuses"}


async def test_listings_of_executions_leave_large_fields_out(
    alice: httpx2.AsyncClient, job: JsonBody, execution: JsonBody
) -> None:
    for path in ("/executions", f"/jobs/{job['id']}/executions"):
        assert await list_items(alice, path) == [without_large_fields(execution)]
    assert execution["attempts"][1]["response"]["body"] == "z"


async def test_full_items_are_those_that_are_read_by_their_ids(
    alice: httpx2.AsyncClient, job: JsonBody, execution: JsonBody
) -> None:
    assert await list_items(alice, "/jobs", fields="full") == [job]
    for path in ("/executions", f"/jobs/{job['id']}/executions"):
        assert await list_items(alice, path, fields="full") == [execution]


@pytest.mark.parametrize(
    ("partial", "full", "left_out"),
    [
        (PartialJobOut, JobOut, {"parameters"}),
        (PartialExecutionOut, ExecutionOut, {"parameters"}),
        (PartialAttempt, AttemptOut, set()),
        (PartialResponse, TargetResponse, {"headers", "body"}),
    ],
)
def test_a_partial_item_has_every_field_that_is_not_large(
    partial: Any, full: Any, left_out: set[str]
) -> None:
    added = {"partial"} & set(partial.model_fields)
    assert set(partial.model_fields) - added == set(full.model_fields) - left_out


def test_a_partial_target_has_every_field_that_is_not_large(job: JsonBody) -> None:
    assert set(PartialHttpTarget.model_fields) == set(job["target"]) - {"headers", "body"}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_partial_item_sent_back_changes_nothing_that_it_leaves_out(
    alice: httpx2.AsyncClient, job: JsonBody, method: str
) -> None:
    (item,) = await list_items(alice, "/jobs")
    response = await alice.request(method, f"/jobs/{job['id']}", json=item)
    assert response.status_code == 200, response.text
    unchanged = {name: value for name, value in job.items() if name != "revision"}
    assert {**unchanged, **response.json()} == {**response.json(), **unchanged}
    changed = await alice.request(
        method, f"/jobs/{job['id']}", json={**item, "description": "new", "parameters": {"g": 1}}
    )
    assert changed.json()["parameters"] == {"g": 1}
    assert changed.json()["target"]["body"] == TARGET["body"]


async def test_a_partial_item_is_rejected_where_a_whole_one_is_needed(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    for partial in (True, False, None):
        response = await alice.post("/jobs", json={"name": "copy", "partial": partial})
        assert_names(response, "/partial")
        assert "fields=full" in response.json()["errors"][0]["detail"]
    for value in (False, None, 1, "true"):
        response = await alice.put(f"/jobs/{job['id']}", json={"partial": value})
        assert_names(response, "/partial")
    for path in ("execute", "schedules"):
        response = await alice.post(f"/jobs/{job['id']}/{path}", json={"partial": True})
        assert response.status_code == 422


async def test_partial_and_full_pages_have_their_own_cache_entries_and_entity_tags(
    alice: httpx2.AsyncClient, job: JsonBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[bool] = []
    list_jobs = JobRepository.list_jobs

    async def record(self: JobRepository, *args: Any, partial: bool, **options: Any) -> Any:
        reads.append(partial)
        return await list_jobs(self, *args, partial=partial, **options)

    monkeypatch.setattr(JobRepository, "list_jobs", record)
    tags = {}
    for fields in ("partial", "full", "partial", "full"):
        response = await alice.get("/jobs", params={"fields": fields})
        assert ("partial" in response.json()["items"][0]) == (fields == "partial")
        tags[fields] = response.headers["etag"]
    assert reads == [True, False]
    assert tags["partial"] != tags["full"]
    for fields, tag in tags.items():
        for other in ("partial", "full"):
            headers = {"If-None-Match": tag}
            response = await alice.get("/jobs", params={"fields": other}, headers=headers)
            assert response.status_code == (304 if other == fields else 200)
    await alice.patch(f"/jobs/{job['id']}", json={"parameters": {"h": 1}})
    (item,) = await list_items(alice, "/jobs", fields="full")
    assert item["parameters"] == {"h": 1}


async def test_a_page_of_large_jobs_has_fewer_items_than_its_limit(
    alice: httpx2.AsyncClient, large_jobs: list[JsonBody]
) -> None:
    query: JsonBody = {"limit": 200, "fields": "full"}
    response = await alice.get("/jobs", params=query)
    page = response.json()
    assert len(response.content) <= PAGE_BYTES + 1_000
    assert 0 < len(page["items"]) < len(large_jobs)
    query["cursor"] = page["next_cursor"]
    rest = (await alice.get("/jobs", params=query)).json()
    assert page["items"] + rest["items"] == large_jobs
    assert rest["next_cursor"] is None
    (*_, last) = await list_items(alice, "/jobs", limit=200, cursor=query["cursor"])
    assert last == without_large_fields(large_jobs[-1])


async def test_a_large_page_is_not_cached(
    alice: httpx2.AsyncClient, large_jobs: list[JsonBody], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []
    list_jobs = JobRepository.list_jobs

    async def record(self: JobRepository, *args: Any, **options: Any) -> Any:
        reads.append(options)
        return await list_jobs(self, *args, **options)

    monkeypatch.setattr(JobRepository, "list_jobs", record)
    for fields in ("full", "full", "partial", "partial"):
        await alice.get("/jobs", params={"limit": 200, "fields": fields})
    assert len(reads) == 3


async def test_a_page_whose_json_is_larger_than_its_stored_form_is_cut_too(
    api: Api, alice: httpx2.AsyncClient, execution: JsonBody
) -> None:
    """A control character has one byte in the database and six in JSON."""
    stored = api.database.collection("executions")
    document = await stored.find_one({"_id": execution["id"]})
    assert document is not None
    document["attempts"][1]["response"]["body"] = "\x01" * 65_536
    copies = [{**document, "_id": f"{n:032x}"} for n in range(20)]
    await stored.insert_many(copies)
    assert len(json.dumps("\x01" * 65_536)) * 20 > PAGE_BYTES
    seen: list[str] = []
    query: JsonBody = {"limit": 200, "fields": "full"}
    for _ in range(3):
        response = await alice.get("/executions", params=query)
        assert len(response.content) <= PAGE_BYTES + 1_000
        seen += [item["id"] for item in response.json()["items"]]
        query["cursor"] = response.json()["next_cursor"]
        if query["cursor"] is None:
            break
    assert sorted(seen) == sorted([execution["id"], *[one["_id"] for one in copies]])
