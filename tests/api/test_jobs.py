"""Jobs: create, read, edit, pause, resume, delete."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.models.execution import ExecutionStatus
from tests.support.api import (
    UNKNOWN_ID,
    Api,
    JsonBody,
    assert_names,
    assert_problem,
    create_job,
)
from tests.support.clock import START

EVERY_MINUTE: JsonBody = {"type": "interval", "interval_seconds": 60}

FULL: JsonBody = {
    "name": "weekly-report",
    "description": "Sends the report",
    "active": True,
    "tags": ["reports", "mail", "reports"],
    "target": {"type": "http", "url": "https://example.com/hook", "headers": {"X-Token": "t"}},
    "parameters": {"action": "send_email", "$set": {"a.b": ""}, "": [1, 2.5, None]},
    "schedules": [
        {"type": "cron", "cron_expression": "0 9 * * MON", "timezone": "Europe/Berlin"},
        {"type": "interval", "interval_seconds": 600, "max_runs": 3, "jitter_seconds": 5},
        {"type": "one_time", "run_at": "2026-11-24T10:00:00+01:00"},
    ],
    "retry": {"max_attempts": 5, "retry_on": ["timeout", 503]},
    "timeout_seconds": 0.5,
    "overlap_policy": "allow_all",
    "catch_up": {"policy": "all"},
}


async def edit(client: httpx2.AsyncClient, job: JsonBody, **body: Any) -> JsonBody:
    response = await client.patch(f"/jobs/{job['id']}", json=body)
    assert response.status_code == 200, response.text
    changed: JsonBody = response.json()
    return changed


async def test_a_new_job_has_all_fields_of_its_body(alice: httpx2.AsyncClient) -> None:
    response = await alice.post("/jobs", json=FULL)
    assert response.status_code == 201
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert job["tags"] == ["reports", "mail"]
    for field in ("name", "description", "parameters", "timeout_seconds", "overlap_policy"):
        assert job[field] == FULL[field]
    assert job["target"]["method"] == "POST"
    assert job["retry"]["max_attempts"] == 5
    assert job["retry"]["retry_on"] == ["timeout", 503]
    assert job["retry"]["delay_seconds"] == 5
    assert job["catch_up"] == {"policy": "all", "window_seconds": 86_400}
    assert [s["next_run"] for s in job["schedules"]] == [
        "2026-11-30T08:00:00Z",
        "2026-11-23T08:10:00Z",
        "2026-11-24T09:00:00Z",
    ]
    assert job["next_run"] == "2026-11-23T08:10:00Z"
    assert job["revision"] == 1
    read = await alice.get(f"/jobs/{job['id']}")
    assert read.json() == job


async def test_a_job_without_a_target_has_the_log_target(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice)
    assert job["target"] == {"type": "log"}
    assert job["timeout_seconds"] == 60
    assert job["overlap_policy"] == "skip"


async def test_a_new_paused_job_has_no_next_run(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, active=False, schedules=[EVERY_MINUTE])
    assert job["next_run"] is None
    assert job["schedules"][0]["next_run"] is None


@pytest.mark.parametrize(
    ("schedule", "pointer"),
    [
        ({"type": "one_time", "run_at": "2026-11-23T07:59:59Z"}, "/schedules/0/run_at"),
        ({**EVERY_MINUTE, "end_at": "2026-11-23T07:00:00Z"}, "/schedules/0/end_at"),
        (
            {
                "type": "cron",
                "cron_expression": "0 0 1 1 *",
                "start_at": "2027-02-01T00:00:00Z",
                "end_at": "2027-03-01T00:00:00Z",
            },
            "/schedules/0/cron_expression",
        ),
        (
            {
                "type": "one_time",
                "run_at": "2026-12-01T00:00:00Z",
                "end_at": "2026-11-30T00:00:00Z",
            },
            "/schedules/0/run_at",
        ),
    ],
)
async def test_a_schedule_that_can_never_fire_is_rejected(
    alice: httpx2.AsyncClient, schedule: JsonBody, pointer: str
) -> None:
    response = await alice.post("/jobs", json={"name": "a job", "schedules": [schedule]})
    assert_names(response, pointer)


async def test_a_new_schedule_must_not_name_an_id(alice: httpx2.AsyncClient) -> None:
    schedule = {**EVERY_MINUTE, "id": UNKNOWN_ID}
    response = await alice.post("/jobs", json={"name": "a job", "schedules": [schedule]})
    assert_names(response, "/schedules/0/id")


async def test_an_edit_changes_the_named_fields_and_keeps_the_others(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = (await alice.post("/jobs", json=FULL)).json()
    api.clock.advance(timedelta(seconds=1))
    changed = await edit(
        alice,
        job,
        name="other",
        retry={"max_attempts": 2},
        catch_up={"window_seconds": 60},
        target={"url": "https://example.com/other"},
    )
    assert changed["name"] == "other"
    assert changed["retry"] == {**job["retry"], "max_attempts": 2}
    assert changed["catch_up"] == {"policy": "all", "window_seconds": 60}
    assert changed["target"] == {**job["target"], "url": "https://example.com/other"}
    assert changed["revision"] == 2
    assert changed["updated_at"] == "2026-11-23T08:00:01Z"
    same = ("description", "tags", "parameters", "schedules", "next_run", "created_at", "active")
    assert {field: changed[field] for field in same} == {field: job[field] for field in same}


async def test_put_means_the_same_as_patch(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, description="kept", schedules=[EVERY_MINUTE])
    response = await alice.put(f"/jobs/{job['id']}", json={"name": "other"})
    assert response.status_code == 200
    assert response.json()["description"] == "kept"
    assert response.json()["schedules"] == job["schedules"]


async def test_another_type_replaces_the_target(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, target={"type": "http", "url": "https://example.com/"})
    assert (await edit(alice, job, target={"type": "log"}))["target"] == {"type": "log"}
    response = await alice.patch(f"/jobs/{job['id']}", json={"target": {"type": "http"}})
    assert_names(response, "/target/url")
    response = await alice.patch(f"/jobs/{job['id']}", json={"target": {"method": "GET"}})
    assert_names(response, "/target/method")


async def test_new_schedules_replace_the_list_and_identical_ones_keep_their_next_run(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(
        alice, schedules=[EVERY_MINUTE, {**EVERY_MINUTE, "interval_seconds": 90}]
    )
    api.clock.advance(timedelta(seconds=30))
    hourly = {"type": "cron", "cron_expression": "@hourly"}
    changed = await edit(alice, job, schedules=[hourly, EVERY_MINUTE])
    assert changed["schedules"][1] == job["schedules"][0]
    assert changed["schedules"][0]["id"] not in {s["id"] for s in job["schedules"]}
    assert changed["next_run"] == "2026-11-23T08:01:00Z"


async def test_a_schedule_named_by_its_id_keeps_id_runs_and_anchor(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, schedules=[EVERY_MINUTE])
    [before] = job["schedules"]
    api.clock.advance(timedelta(seconds=30))
    [after] = (
        await edit(alice, job, schedules=[{**EVERY_MINUTE, "id": before["id"], "max_runs": 9}])
    )["schedules"]
    assert after == {**before, "max_runs": 9}
    response = await alice.patch(
        f"/jobs/{job['id']}", json={"schedules": [{**EVERY_MINUTE, "id": UNKNOWN_ID}]}
    )
    assert_names(response, "/schedules/0/id")


async def test_a_schedule_id_cannot_appear_twice(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, schedules=[EVERY_MINUTE])
    twice = [{**EVERY_MINUTE, "id": job["schedules"][0]["id"]}] * 2
    response = await alice.patch(f"/jobs/{job['id']}", json={"schedules": twice})
    assert_names(response, "/schedules/1/id")


async def test_a_past_one_time_schedule_is_rejected_only_if_it_is_new(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    once = {"type": "one_time", "run_at": "2026-11-23T08:00:10Z"}
    job = await create_job(alice, schedules=[once])
    api.clock.advance(timedelta(minutes=1))
    same = await edit(alice, job, name="other", schedules=[once, EVERY_MINUTE])
    assert same["schedules"][0]["id"] == job["schedules"][0]["id"]
    past = {"type": "one_time", "run_at": "2026-11-23T08:00:20Z"}
    response = await alice.patch(f"/jobs/{job['id']}", json={"schedules": [EVERY_MINUTE, past]})
    assert_names(response, "/schedules/1/run_at")


async def test_an_edit_of_the_schedule_first_records_due_slots(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, schedules=[EVERY_MINUTE], overlap_policy="allow_all")
    api.clock.advance(timedelta(seconds=61))
    changed = await edit(alice, job, schedules=[{**EVERY_MINUTE, "interval_seconds": 600}])
    [fired] = await api.list_executions(job)
    assert fired.scheduled_for == START + timedelta(seconds=60)
    assert changed["next_run"] == "2026-11-23T08:11:01Z"


async def test_an_edit_of_the_name_does_not_affect_due_slots(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, schedules=[EVERY_MINUTE])
    api.clock.advance(timedelta(seconds=61))
    changed = await edit(alice, job, name="other")
    assert changed["next_run"] == job["next_run"]
    assert await api.list_executions(job) == []


async def test_pause_records_due_slots_and_resume_does_not_fire_slots_of_the_pause(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, schedules=[EVERY_MINUTE], overlap_policy="allow_all")
    api.clock.advance(timedelta(seconds=61))
    paused = (await alice.post(f"/jobs/{job['id']}/deactivate")).json()
    assert paused["active"] is False
    assert paused["next_run"] is None
    assert paused["schedules"][0]["next_run"] is None
    assert len(await api.list_executions(job)) == 1
    api.clock.advance(timedelta(minutes=10))
    resumed = (await alice.post(f"/jobs/{job['id']}/activate")).json()
    assert resumed["active"] is True
    assert resumed["next_run"] == "2026-11-23T08:12:00Z"
    assert resumed["revision"] == 3
    assert len(await api.list_executions(job)) == 1


async def test_pausing_twice_changes_nothing_the_second_time(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, schedules=[EVERY_MINUTE])
    first = (await alice.post(f"/jobs/{job['id']}/deactivate")).json()
    second = (await alice.post(f"/jobs/{job['id']}/deactivate")).json()
    assert first == second


async def test_an_edit_can_pause_and_resume(api: Api, alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, schedules=[EVERY_MINUTE])
    paused = await edit(alice, job, active=False)
    assert paused["next_run"] is None
    api.clock.advance(timedelta(minutes=10))
    still = await edit(alice, job, schedules=[{**EVERY_MINUTE, "interval_seconds": 120}])
    assert still["schedules"][0]["next_run"] is None
    resumed = await edit(alice, job, active=True)
    assert resumed["next_run"] == "2026-11-23T08:12:00Z"


async def test_a_job_whose_receiver_is_gone_is_paused_with_a_reason(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, schedules=[EVERY_MINUTE])
    path = f"/jobs/{job['id']}"
    assert (await alice.get(path)).json()["pause_reason"] is None
    assert await api.runtime.jobs.pause_for_gone_receiver(await api.read_job(job))
    paused = (await alice.get(path)).json()
    assert (paused["active"], paused["pause_reason"]) == (False, "gone")
    assert (paused["next_run"], paused["revision"]) == (None, 2)
    resumed = (await alice.post(f"{path}/activate")).json()
    assert (resumed["active"], resumed["pause_reason"]) == (True, None)
    assert (await alice.post(f"{path}/deactivate")).json()["pause_reason"] is None


async def test_a_410_does_not_pause_a_job_that_was_edited_after_the_attempt_began(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, schedules=[EVERY_MINUTE])
    before = await api.read_job(job)
    await alice.patch(f"/jobs/{job['id']}", json={"description": "another receiver"})
    assert not await api.runtime.jobs.pause_for_gone_receiver(before)
    assert (await alice.get(f"/jobs/{job['id']}")).json()["active"] is True
    await alice.delete(f"/jobs/{job['id']}")
    assert not await api.runtime.jobs.pause_for_gone_receiver(before)


async def test_a_deleted_job_is_a_404_and_its_history_stays(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, schedules=[EVERY_MINUTE])
    api.clock.advance(timedelta(seconds=61))
    response = await alice.delete(f"/jobs/{job['id']}")
    assert response.status_code == 204
    assert response.content == b""
    assert "content-type" not in response.headers
    assert_problem(await alice.get(f"/jobs/{job['id']}"), 404)
    assert_problem(await alice.delete(f"/jobs/{job['id']}"), 404)
    [execution] = (await alice.get(f"/jobs/{job['id']}/executions")).json()["items"]
    assert execution["status"] == ExecutionStatus.CANCELLED
    assert execution["reason"] == "job_deleted"


async def test_every_write_wakes_the_scheduler(api: Api, alice: httpx2.AsyncClient) -> None:
    async def wakes_scheduler(method: str, path: str, **options: Any) -> bool:
        api.wake.schedules.clear()
        response = await alice.request(method, path, **options)
        assert response.is_success
        return api.wake.schedules.is_set()

    assert await wakes_scheduler("POST", "/jobs", json={"name": "other", "interval": 60})
    job = await create_job(alice, schedules=[EVERY_MINUTE])
    path = f"/jobs/{job['id']}"
    assert await wakes_scheduler("PATCH", path, json={"interval": 5})
    assert await wakes_scheduler("POST", f"{path}/deactivate")
    assert await wakes_scheduler("POST", f"{path}/activate")
    assert await wakes_scheduler("DELETE", path)


async def test_an_edit_that_loses_every_race_is_a_conflict(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await create_job(alice)

    async def lose(*_: Any, **__: Any) -> bool:
        return False

    monkeypatch.setattr(api.jobs, "replace", lose)
    assert_problem(await alice.patch(f"/jobs/{job['id']}", json={"name": "other"}), 409)


async def test_an_edit_that_loses_a_race_is_repeated(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await create_job(alice, description="old")
    replace = api.jobs.replace

    async def lose_once(changed: Any, *, expected: Any) -> bool:
        monkeypatch.undo()
        rival = expected.model_copy(update={"description": "rival", "revision": 2})
        assert await replace(rival, expected=expected)
        return await replace(changed, expected=expected)

    monkeypatch.setattr(api.jobs, "replace", lose_once)
    changed = await edit(alice, job, name="other")
    assert changed["revision"] == 3
    assert changed["description"] == "rival"
    assert changed["name"] == "other"


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"name": ""}, "/name", "string should have at least 1 character"),
        ({"name": "x" * 201}, "/name", "string should have at most 200 characters"),
        ({"name": "x", "tags": [""]}, "/tags/0", "string should have at least 1 character"),
    ],
)
async def test_a_text_of_the_wrong_length_is_told_its_limit_in_characters(
    alice: httpx2.AsyncClient, body: JsonBody, pointer: str, detail: str
) -> None:
    problem = assert_problem(await alice.post("/jobs", json=body), 422)
    assert problem["errors"] == [{"pointer": pointer, "detail": detail}]
