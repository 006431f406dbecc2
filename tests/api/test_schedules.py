"""Single schedules, previews, next slots, and what happened at an instant."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tests.support.api import Api, JsonBody, assert_problem

MINUTE = timedelta(minutes=1)
EVERY_MINUTE = {"type": "interval", "interval_seconds": 60}
WEEKDAYS = {"type": "cron", "cron_expression": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"}


@pytest.fixture
async def job(alice: httpx2.AsyncClient) -> JsonBody:
    created: JsonBody = (await alice.post("/jobs", json={"name": "a job", "interval": 60})).json()
    return created


async def test_a_schedule_is_added_read_and_deleted(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    response = await alice.post(f"/jobs/{job['id']}/schedules", json=WEEKDAYS)
    added = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/schedules/{added['id']}"
    assert added["job_id"] == job["id"]
    assert (
        added["next_run"] == "2026-11-24T08:00:00Z"
    )  # now is 09:00 in Berlin, and the next slot is after now
    assert (await alice.get(f"/schedules/{added['id']}")).json() == added
    listed = (await alice.get(f"/jobs/{job['id']}/schedules")).json()["items"]
    assert [schedule["id"] for schedule in listed] == [job["schedules"][0]["id"], added["id"]]

    assert (await alice.delete(f"/schedules/{added['id']}")).status_code == 204
    assert_problem(await alice.get(f"/schedules/{added['id']}"), 404)
    stored = (await alice.get(f"/jobs/{job['id']}")).json()
    assert stored["schedules"] == job["schedules"]
    assert stored["revision"] == 3


async def test_a_repeated_request_with_a_key_adds_one_schedule(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    for _ in range(2):
        key = {"Idempotency-Key": "once"}
        await alice.post(f"/jobs/{job['id']}/schedules", json=WEEKDAYS, headers=key)
    assert len((await alice.get(f"/jobs/{job['id']}")).json()["schedules"]) == 2


async def test_a_job_has_at_most_twenty_schedules(alice: httpx2.AsyncClient, job: JsonBody) -> None:
    for _ in range(19):
        await alice.post(f"/jobs/{job['id']}/schedules", json=EVERY_MINUTE)
    assert_problem(await alice.post(f"/jobs/{job['id']}/schedules", json=EVERY_MINUTE), 409)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_an_edit_keeps_the_fields_that_it_does_not_name(
    alice: httpx2.AsyncClient, job: JsonBody, method: str
) -> None:
    before = (await alice.post(f"/jobs/{job['id']}/schedules", json=WEEKDAYS)).json()
    url = f"/schedules/{before['id']}"
    after = (await alice.request(method, url, json={"jitter_seconds": 30})).json()
    assert after == before | {"jitter_seconds": 30}
    moved = (await alice.request(method, url, json={"cron_expression": "30 9 * * *"})).json()
    assert moved["timezone"] == "Europe/Berlin"
    assert moved["next_run"] == "2026-11-23T08:30:00Z"


async def test_another_type_needs_its_own_fields(alice: httpx2.AsyncClient, job: JsonBody) -> None:
    url = f"/schedules/{job['schedules'][0]['id']}"
    body = assert_problem(await alice.patch(url, json={"type": "cron"}), 422)
    assert body["errors"][0]["pointer"] == "/cron_expression"
    body = assert_problem(await alice.patch(url, json={"cron_expression": "0 9 * * *"}), 422)
    assert body["errors"][0]["pointer"] == "/cron_expression"
    changed = {"type": "cron", "cron_expression": "0 9 * * *"}
    response = (await alice.patch(url, json=changed)).json()
    assert (response["id"], response["type"]) == (job["schedules"][0]["id"], "cron")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"interval_seconds": 0}, "/interval_seconds"),
        ({"timezone": "Mars/Olympus"}, "/timezone"),
        ({"end_at": "2020-01-01T00:00:00Z"}, "/end_at"),
        ({"max_runs": 0}, "/max_runs"),
        ({"run": 5}, "/run"),
    ],
)
async def test_an_invalid_edit_names_the_field(
    alice: httpx2.AsyncClient, job: JsonBody, change: JsonBody, pointer: str
) -> None:
    url = f"/schedules/{job['schedules'][0]['id']}"
    body = assert_problem(await alice.patch(url, json=change), 422)
    assert pointer in [error["pointer"] for error in body["errors"]]


async def test_a_change_of_schedule_loses_and_adds_no_slot(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    api.clock.advance(3 * MINUTE)  # the three slots are not recorded
    url = f"/schedules/{job['schedules'][0]['id']}"
    await alice.patch(url, json={"interval_seconds": 120})
    api.clock.advance(MINUTE)
    await api.fire_due()

    slots = set()
    for execution in await api.list_executions(job):
        count = execution.missed_count or 1
        slots |= {execution.scheduled_for + n * MINUTE for n in range(count)}
    start = api.clock.now() - 4 * MINUTE
    assert slots == {start + n * MINUTE for n in (1, 2, 3, 4)}


async def preview(client: httpx2.AsyncClient, count: int, **body: Any) -> JsonBody:
    response = await client.post("/schedules/preview", params={"count": count}, json=body)
    assert response.status_code == 200, response.text
    shown: JsonBody = response.json()
    return shown


async def test_a_preview_describes_the_schedule_and_shows_slots_in_utc_and_local_time(
    alice: httpx2.AsyncClient,
) -> None:
    shown = await preview(alice, 2, **WEEKDAYS)
    assert shown["description"] == "At 09:00, Monday through Friday"
    assert shown["next_runs"][0] == {
        "schedule_id": None,
        "utc": "2026-11-24T08:00:00Z",
        "local": "2026-11-24T09:00:00+01:00",
        "offset": "+01:00",
        "notes": [],
    }
    assert len(shown["next_runs"]) == 2


async def test_a_preview_starts_at_start_at(alice: httpx2.AsyncClient) -> None:
    shown = await preview(alice, 1, **EVERY_MINUTE, start_at="2027-01-01T00:00:00Z")
    assert shown["description"] == "Every minute"
    assert shown["next_runs"][0]["utc"] == "2027-01-01T00:00:00Z"


async def test_a_preview_ends_with_max_runs_and_end_at(alice: httpx2.AsyncClient) -> None:
    assert len((await preview(alice, 10, **EVERY_MINUTE, max_runs=3))["next_runs"]) == 3
    ends = {"end_at": "2026-11-23T08:04:30Z"}
    assert len((await preview(alice, 10, **EVERY_MINUTE, **ends))["next_runs"]) == 4


async def test_a_preview_explains_clock_changes(alice: httpx2.AsyncClient) -> None:
    cron = {"type": "cron", "timezone": "America/New_York", "start_at": "2027-03-14T00:00:00-05:00"}
    gap = await preview(alice, 1, **cron, cron_expression="30 2 * * *")
    assert gap["next_runs"][0]["local"] == "2027-03-14T03:00:00-04:00"
    assert gap["next_runs"][0]["notes"] == [
        "moved to the end of the gap, because the clock skips its time"
    ]
    cron["start_at"] = "2027-11-07T00:00:00-04:00"
    fold = await preview(alice, 2, **cron, cron_expression="30 1 * * *", dst="twice")
    assert [run["notes"] for run in fold["next_runs"]] == [
        ["the first time in the repeated hour"],
        ["the second time in the repeated hour"],
    ]


@pytest.mark.parametrize(
    ("expression", "zone", "warning_part"),
    [
        ("*/7 * * * *", "UTC", "after 56 comes 0, 4 minutes later"),
        ("*/59 * * * *", "UTC", "after 59 comes 0, 1 minute later"),
        ("5 0 31 * *", "UTC", "In months without day 31 no slot is on that day"),
        ("5 0 30,31 * *", "UTC", "In months without day 30 or 31 no slot is on that day"),
        ("0 9 * * *", "UTC", "minute 0"),
        ("30 2 * * *", "Europe/Berlin", "clock change"),
    ],
)
async def test_a_preview_warns_of_expressions_with_surprising_slots(
    alice: httpx2.AsyncClient, expression: str, zone: str, warning_part: str
) -> None:
    body = {"type": "cron", "cron_expression": expression, "timezone": zone}
    (warning,) = (await preview(alice, 1, **body))["warnings"]
    assert warning_part in warning


async def test_a_schedule_without_problems_has_no_warnings(alice: httpx2.AsyncClient) -> None:
    body = {"type": "cron", "cron_expression": "17 */6 * * *", "timezone": "Europe/Berlin"}
    assert (await preview(alice, 1, **body))["warnings"] == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"type": "cron", "cron_expression": "0 0 30 2 *"}, "/cron_expression"),
        ({"type": "interval", "interval_seconds": 0}, "/interval_seconds"),
        ({"type": "one_time", "run_at": "2020-01-01T00:00:00Z"}, "/run_at"),
    ],
)
async def test_a_schedule_that_never_fires_is_rejected(
    alice: httpx2.AsyncClient, body: JsonBody, pointer: str
) -> None:
    rejected = assert_problem(await alice.post("/schedules/preview", json=body), 422)
    assert pointer in [error["pointer"] for error in rejected["errors"]]


@pytest.mark.parametrize("count", ["0", "101", "x"])
async def test_the_count_has_bounds(alice: httpx2.AsyncClient, count: str) -> None:
    response = await alice.post("/schedules/preview", params={"count": count}, json=EVERY_MINUTE)
    assert assert_problem(response, 422)["errors"][0]["pointer"] == "/query/count"


async def test_next_runs_merge_all_active_schedules(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    body = {"type": "interval", "interval_seconds": 90}
    other = (await alice.post(f"/jobs/{job['id']}/schedules", json=body)).json()
    shown = (await alice.get(f"/jobs/{job['id']}/next-runs", params={"count": 4})).json()
    assert [run["utc"][11:] for run in shown["next_runs"]] == [
        "08:01:00Z",
        "08:01:30Z",
        "08:02:00Z",
        "08:03:00Z",
    ]
    assert shown["next_runs"][1]["schedule_id"] == other["id"]
    await alice.post(f"/jobs/{job['id']}/deactivate")
    paused = (await alice.get(f"/jobs/{job['id']}/next-runs")).json()
    assert paused["next_runs"] == []
    assert "paused" in paused["warnings"][0]


async def explain(client: httpx2.AsyncClient, job: JsonBody, at: str) -> JsonBody:
    response = await client.get(f"/jobs/{job['id']}/why", params={"at": at})
    (only,) = response.json()["items"]
    found: JsonBody = only
    return found


async def test_why_explains_what_happened_at_an_instant(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    api.clock.advance(MINUTE)
    await api.fire_due()
    api.clock.advance(10 * MINUTE)
    await api.fire_due()

    queued = await explain(alice, job, "2026-11-23T08:01:00Z")
    assert (queued["verdict"], queued["status"]) == ("recorded", "queued")
    missed = await explain(alice, job, "2026-11-23T08:05:00Z")
    assert (missed["verdict"], missed["status"]) == ("missed", "missed")
    assert "8 missed slots" in missed["explanation"]
    skipped = await explain(alice, job, "2026-11-23T08:11:00Z")
    assert (skipped["verdict"], skipped["status"]) == ("recorded", "skipped")
    assert "overlap" in skipped["explanation"]
    never = await explain(alice, job, "2026-11-23T08:05:30Z")
    assert never["verdict"] == "never_due"
    assert never["slot_before"] == "2026-11-23T08:05:00Z"
    assert never["slot_after"] == "2026-11-23T08:06:00Z"
    assert (await explain(alice, job, "2026-11-23T08:12:00Z"))["verdict"] == "pending"
    assert (await explain(alice, job, "2026-11-23T07:59:00Z"))["verdict"] == "never_due"


async def test_why_explains_that_a_slot_of_a_paused_job_has_no_record(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    await alice.post(f"/jobs/{job['id']}/deactivate")
    api.clock.advance(5 * MINUTE)
    await alice.post(f"/jobs/{job['id']}/activate")
    assert (await explain(alice, job, "2026-11-23T08:03:00Z"))["verdict"] == "not_recorded"


async def test_an_instant_without_an_offset_is_rejected(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    response = await alice.get(f"/jobs/{job['id']}/why", params={"at": "2026-11-23T08:00:00"})
    assert assert_problem(response, 422)["errors"][0]["pointer"] == "/query/at"
