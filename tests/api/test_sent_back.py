"""What a GET or a listing returned can be sent back by PUT and PATCH: it changes nothing."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.schemas.jobs import JobOut, JobUpdate, PartialJobOut
from app.schemas.schedules import (
    CronScheduleEdit,
    CronScheduleOut,
    IntervalScheduleEdit,
    IntervalScheduleOut,
    OneTimeScheduleEdit,
    OneTimeScheduleOut,
    ScheduleChange,
)
from tests.support.api import Api, JsonBody, assert_names, create_job
from tests.support.clock import START
from tests.support.round_trips import read_stored

SCHEDULES: list[JsonBody] = [
    {"type": "cron", "cron_expression": "0 9 * * MON", "timezone": "Europe/Berlin"},
    {"type": "interval", "interval_seconds": 60, "jitter_seconds": 5},
    {"type": "one_time", "run_at": (START + timedelta(minutes=1)).isoformat()},
]
JOB: JsonBody = {
    "schedules": SCHEDULES,
    "target": {"type": "http", "url": "https://a.test/", "headers": {"X-A": "b"}, "body": 1},
    "parameters": {"c": 2},
    "tags": ["d"],
}
METHODS = pytest.mark.parametrize("method", ["PUT", "PATCH"])
JOB_READS = pytest.mark.parametrize("read", ["/jobs", "/jobs?fields=full", "/jobs/{id}"])


@pytest.fixture
async def job(api: Api, alice: httpx2.AsyncClient) -> JsonBody:
    """A job with a schedule of each type, one of which has had its only slot."""
    job = await create_job(alice, **JOB)
    api.clock.advance(timedelta(minutes=2))
    await api.fire_due()
    return job


async def read_job(client: httpx2.AsyncClient, path: str, job: JsonBody) -> JsonBody:
    found: JsonBody = (await client.get(path.format(id=job["id"]))).json()
    if "items" in found:
        (found,) = found["items"]
    return found


@METHODS
@JOB_READS
async def test_a_job_that_was_read_and_is_sent_back_changes_nothing(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody, method: str, read: str
) -> None:
    before = await read_stored(api, job)
    item = await read_job(alice, read, job)
    response = await alice.request(method, f"/jobs/{job['id']}", json=item)
    assert response.status_code == 200, response.text
    assert response.json()["revision"] == job["revision"] + 1
    assert await read_stored(api, job) == before


@METHODS
@JOB_READS
async def test_a_paused_job_that_is_sent_back_stays_paused_with_its_reason(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody, method: str, read: str
) -> None:
    await alice.post(f"/jobs/{job['id']}/deactivate")
    await api.database.collection("jobs").update_one(
        {"_id": job["id"]}, {"$set": {"pause_reason": "gone"}}
    )
    before = await read_stored(api, job)
    item = await read_job(alice, read, job)
    response = await alice.request(method, f"/jobs/{job['id']}", json=item)
    assert response.status_code == 200, response.text
    assert await read_stored(api, job) == before


@METHODS
@pytest.mark.parametrize("index", range(len(SCHEDULES)))
async def test_a_schedule_that_was_read_and_is_sent_back_changes_nothing(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody, method: str, index: int
) -> None:
    before = await read_stored(api, job)
    path = f"/schedules/{job['schedules'][index]['id']}"
    listed = (await alice.get(f"/jobs/{job['id']}/schedules")).json()["items"][index]
    read = await alice.get(path)
    assert read.json() == listed
    response = await alice.request(
        method, path, json=listed, headers={"If-Match": read.headers["etag"]}
    )
    assert response.status_code == 200, response.text
    assert response.json() == listed
    assert response.headers["etag"].startswith(f'"{job["revision"] + 1}-')
    assert await read_stored(api, job) == before


@METHODS
async def test_another_value_of_a_field_that_only_responses_have_changes_nothing(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody, method: str
) -> None:
    before = await read_stored(api, job)
    item = await read_job(alice, "/jobs/{id}", job)
    for schedule in item["schedules"]:
        schedule |= {"next_run": "x", "runs": 99, "anchor_at": None, "job_id": "\0"}
    item |= {name: {"x": "y"} for name in JobUpdate.ignored_fields} | {"next_run": 5}
    response = await alice.request(method, f"/jobs/{job['id']}", json=item)
    assert response.status_code == 200, response.text
    values = dict.fromkeys(ScheduleChange.ignored_fields, -1)
    for schedule in job["schedules"]:
        response = await alice.request(method, f"/schedules/{schedule['id']}", json=values)
        assert response.status_code == 200, response.text
    assert await read_stored(api, job) == before


@METHODS
async def test_a_change_in_what_was_read_takes_effect(
    alice: httpx2.AsyncClient, job: JsonBody, method: str
) -> None:
    item = await read_job(alice, "/jobs", job)
    item["schedules"] = [item["schedules"][1] | {"interval_seconds": 90}]
    changed = (await alice.request(method, f"/jobs/{job['id']}", json=item)).json()
    (schedule,) = changed["schedules"]
    assert (schedule["id"], schedule["runs"]) == (job["schedules"][1]["id"], 1)
    assert schedule["interval_seconds"] == 90
    assert changed["parameters"] == JOB["parameters"]


@METHODS
async def test_misspelt_fields_of_an_edit_are_rejected(
    alice: httpx2.AsyncClient, job: JsonBody, method: str
) -> None:
    item = await read_job(alice, "/jobs/{id}", job)
    response = await alice.request(method, f"/jobs/{job['id']}", json=item | {"lastrun": None})
    assert_names(response, "/lastrun")
    item["schedules"][0] |= {"run": 1}
    response = await alice.request(method, f"/jobs/{job['id']}", json=item)
    assert_names(response, "/schedules/0/run")
    path = f"/schedules/{job['schedules'][0]['id']}"
    response = await alice.request(method, path, json={"nextrun": None})
    assert_names(response, "/nextrun")


@METHODS
async def test_next_run_beside_an_interval_is_its_start_in_an_edit_too(
    alice: httpx2.AsyncClient, method: str
) -> None:
    plain = await create_job(alice, interval=60)
    edit = {"interval": 60, "next_run": "2026-11-24T00:00:00Z"}
    changed = (await alice.request(method, f"/jobs/{plain['id']}", json=edit)).json()
    assert changed["next_run"] == "2026-11-24T00:00:00Z"


@pytest.mark.parametrize("name", sorted(JobUpdate.ignored_fields | {"next_run"}))
async def test_a_new_job_has_no_field_that_only_responses_have(
    alice: httpx2.AsyncClient, job: JsonBody, name: str
) -> None:
    value = (await read_job(alice, "/jobs/{id}", job))[name] or "2026-11-24T00:00:00Z"
    response = await alice.post("/jobs", json={"name": "copy", name: value})
    assert_names(response, f"/{name}")


@pytest.mark.parametrize("name", ["next_run", "runs", "job_id", "anchor_at"])
async def test_a_new_schedule_has_no_field_that_only_responses_have(
    alice: httpx2.AsyncClient, job: JsonBody, name: str
) -> None:
    body = {**SCHEDULES[1], name: None}
    assert_names(await alice.post(f"/jobs/{job['id']}/schedules", json=body), f"/{name}")
    assert_names(await alice.post("/schedules/preview", json=body), f"/{name}")
    response = await alice.post("/jobs", json={"name": "copy", "schedules": [body]})
    assert_names(response, f"/schedules/0/{name}")


async def test_a_new_schedule_has_no_id(alice: httpx2.AsyncClient, job: JsonBody) -> None:
    body = {**SCHEDULES[1], "id": job["schedules"][1]["id"]}
    assert_names(await alice.post(f"/jobs/{job['id']}/schedules", json=body), "/id")
    assert_names(await alice.post("/schedules/preview", json=body), "/id")
    response = await alice.post("/jobs", json={"name": "copy", "schedules": [body]})
    assert_names(response, "/schedules/0/id")
    assert len((await alice.get(f"/jobs/{job['id']}")).json()["schedules"]) == len(SCHEDULES)


@pytest.mark.parametrize(
    ("edit", "response"),
    [
        (JobUpdate, JobOut),
        (JobUpdate, PartialJobOut),
        (CronScheduleEdit, CronScheduleOut),
        (IntervalScheduleEdit, IntervalScheduleOut),
        (OneTimeScheduleEdit, OneTimeScheduleOut),
        (ScheduleChange, CronScheduleOut),
        (ScheduleChange, IntervalScheduleOut),
        (ScheduleChange, OneTimeScheduleOut),
    ],
)
def test_an_edit_documents_every_field_of_the_response(edit: Any, response: Any) -> None:
    assert not edit.ignored_fields & set(edit.model_fields)
    properties = edit.model_json_schema()["properties"]
    assert set(response.model_json_schema(mode="serialization")["properties"]) <= set(properties)
    for name in edit.ignored_fields:
        assert properties[name]["description"].startswith("Ignored.")
