"""Jobs: create, read, list, edit, pause, resume, delete."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.models.execution import ExecutionStatus
from tests.support.api import Api, JsonBody, assert_names, assert_problem
from tests.support.clock import START

EVERY_MINUTE: JsonBody = {"type": "interval", "interval_seconds": 60}
UNKNOWN = "0" * 32

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


async def create(client: httpx2.AsyncClient, **body: Any) -> JsonBody:
    response = await client.post("/jobs", json={"name": "a job", **body})
    assert response.status_code == 201, response.text
    job: JsonBody = response.json()
    return job


async def edit(client: httpx2.AsyncClient, job: JsonBody, **body: Any) -> JsonBody:
    response = await client.patch(f"/jobs/{job['id']}", json=body)
    assert response.status_code == 200, response.text
    changed: JsonBody = response.json()
    return changed


async def test_a_job_with_all_fields_is_returned_as_sent(alice: httpx2.AsyncClient) -> None:
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


async def test_a_job_without_target_runs_the_log_target(alice: httpx2.AsyncClient) -> None:
    job = await create(alice)
    assert job["target"] == {"type": "log"}
    assert job["timeout_seconds"] == 60
    assert job["overlap_policy"] == "skip"


async def test_a_new_paused_job_has_no_next_run(alice: httpx2.AsyncClient) -> None:
    job = await create(alice, active=False, schedules=[EVERY_MINUTE])
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
        ({**EVERY_MINUTE, "id": UNKNOWN}, "/schedules/0/id"),
    ],
)
async def test_a_schedule_that_can_never_fire_is_refused(
    alice: httpx2.AsyncClient, schedule: JsonBody, pointer: str
) -> None:
    response = await alice.post("/jobs", json={"name": "a job", "schedules": [schedule]})
    assert_names(response, pointer)


async def test_the_listing_has_the_newest_first_in_keyset_pages(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    names = []
    for i in range(5):
        api.clock.advance(timedelta(milliseconds=1))
        names.append((await create(alice, name=f"job {i}"))["name"])
    seen, cursor = [], None
    sizes = []
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await alice.get("/jobs", params=query)).json()
        sizes.append(len(page["items"]))
        seen += [job["name"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == names[::-1]
    assert sizes == [2, 2, 1]


async def test_the_listing_shows_own_jobs_and_an_admin_all(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    await create(alice, name="of alice")
    await create(bob, name="of bob")

    async def names(client: httpx2.AsyncClient) -> set[str]:
        return {job["name"] for job in (await client.get("/jobs")).json()["items"]}

    assert await names(alice) == {"of alice"}
    assert await names(bob) == {"of bob"}
    assert await names(admin) == {"of alice", "of bob"}


async def test_the_listing_can_be_filtered(alice: httpx2.AsyncClient) -> None:
    await create(alice, name="paused", active=False, tags=["x"])
    await create(alice, name="http", target={"type": "http", "url": "https://example.com/"})

    async def names(**query: Any) -> list[str]:
        return [j["name"] for j in (await alice.get("/jobs", params=query)).json()["items"]]

    assert await names(active=False) == ["paused"]
    assert await names(tag="x") == ["paused"]
    assert await names(target_type="http") == ["http"]
    assert await names(status="failed") == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"limit": 0}, "/query/limit"),
        ({"limit": -1}, "/query/limit"),
        ({"limit": 201}, "/query/limit"),
        ({"limit": 10**9}, "/query/limit"),
        ({"limit": "many"}, "/query/limit"),
        ({"cursor": "garbage"}, "/query/cursor"),
        ({"cursor": "W10"}, "/query/cursor"),
        ({"cursor": "WyJ4Il0"}, "/query/cursor"),
        ({"cursor": "x" * 300}, "/query/cursor"),
        ({"status": "broken"}, "/query/status"),
        ({"sort": "owner_id"}, "/query/sort"),
        ({"tag": "\0"}, "/query/tag"),
    ],
)
async def test_an_invalid_query_names_the_parameter(
    alice: httpx2.AsyncClient, query: JsonBody, pointer: str
) -> None:
    assert_names(await alice.get("/jobs", params=query), pointer)


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
    job = await create(alice, description="kept", schedules=[EVERY_MINUTE])
    response = await alice.put(f"/jobs/{job['id']}", json={"name": "other"})
    assert response.status_code == 200
    assert response.json()["description"] == "kept"
    assert response.json()["schedules"] == job["schedules"]


async def test_another_type_replaces_the_target(alice: httpx2.AsyncClient) -> None:
    job = await create(alice, target={"type": "http", "url": "https://example.com/"})
    assert (await edit(alice, job, target={"type": "log"}))["target"] == {"type": "log"}
    response = await alice.patch(f"/jobs/{job['id']}", json={"target": {"type": "http"}})
    assert_names(response, "/target/url")
    response = await alice.patch(f"/jobs/{job['id']}", json={"target": {"method": "GET"}})
    assert_names(response, "/target/method")


async def test_new_schedules_replace_the_list_and_identical_ones_keep_their_next_run(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create(alice, schedules=[EVERY_MINUTE, {**EVERY_MINUTE, "interval_seconds": 90}])
    api.clock.advance(timedelta(seconds=30))
    hourly = {"type": "cron", "cron_expression": "@hourly"}
    changed = await edit(alice, job, schedules=[hourly, EVERY_MINUTE])
    assert changed["schedules"][1] == job["schedules"][0]
    assert changed["schedules"][0]["id"] not in {s["id"] for s in job["schedules"]}
    assert changed["next_run"] == "2026-11-23T08:01:00Z"


async def test_a_schedule_named_by_its_id_keeps_id_runs_and_anchor(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create(alice, schedules=[EVERY_MINUTE])
    [before] = job["schedules"]
    api.clock.advance(timedelta(seconds=30))
    [after] = (
        await edit(alice, job, schedules=[{**EVERY_MINUTE, "id": before["id"], "max_runs": 9}])
    )["schedules"]
    assert after == {**before, "max_runs": 9}
    response = await alice.patch(
        f"/jobs/{job['id']}", json={"schedules": [{**EVERY_MINUTE, "id": UNKNOWN}]}
    )
    assert_names(response, "/schedules/0/id")


async def test_a_schedule_id_cannot_appear_twice(alice: httpx2.AsyncClient) -> None:
    job = await create(alice, schedules=[EVERY_MINUTE])
    twice = [{**EVERY_MINUTE, "id": job["schedules"][0]["id"]}] * 2
    response = await alice.patch(f"/jobs/{job['id']}", json={"schedules": twice})
    assert_names(response, "/schedules/1/id")


async def test_a_past_one_time_schedule_is_refused_only_if_it_is_new(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    once = {"type": "one_time", "run_at": "2026-11-23T08:00:10Z"}
    job = await create(alice, schedules=[once])
    api.clock.advance(timedelta(minutes=1))
    same = await edit(alice, job, name="other", schedules=[once, EVERY_MINUTE])
    assert same["schedules"][0]["id"] == job["schedules"][0]["id"]
    past = {"type": "one_time", "run_at": "2026-11-23T08:00:20Z"}
    response = await alice.patch(f"/jobs/{job['id']}", json={"schedules": [EVERY_MINUTE, past]})
    assert_names(response, "/schedules/1/run_at")


async def test_an_edit_of_the_schedule_first_records_due_slots(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create(alice, schedules=[EVERY_MINUTE], overlap_policy="allow_all")
    api.clock.advance(timedelta(seconds=61))
    changed = await edit(alice, job, schedules=[{**EVERY_MINUTE, "interval_seconds": 600}])
    [fired] = await api.history(job)
    assert fired.scheduled_for == START + timedelta(seconds=60)
    assert changed["next_run"] == "2026-11-23T08:11:01Z"


async def test_an_edit_of_the_name_does_not_affect_due_slots(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create(alice, schedules=[EVERY_MINUTE])
    api.clock.advance(timedelta(seconds=61))
    changed = await edit(alice, job, name="other")
    assert changed["next_run"] == job["next_run"]
    assert await api.history(job) == []


async def test_pause_records_due_slots_and_resume_runs_no_passed_slots(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create(alice, schedules=[EVERY_MINUTE], overlap_policy="allow_all")
    api.clock.advance(timedelta(seconds=61))
    paused = (await alice.post(f"/jobs/{job['id']}/deactivate")).json()
    assert paused["active"] is False
    assert paused["next_run"] is None
    assert paused["schedules"][0]["next_run"] is None
    assert len(await api.history(job)) == 1
    api.clock.advance(timedelta(minutes=10))
    resumed = (await alice.post(f"/jobs/{job['id']}/activate")).json()
    assert resumed["active"] is True
    assert resumed["next_run"] == "2026-11-23T08:12:00Z"
    assert resumed["revision"] == 3
    assert len(await api.history(job)) == 1


async def test_pausing_twice_changes_nothing_the_second_time(alice: httpx2.AsyncClient) -> None:
    job = await create(alice, schedules=[EVERY_MINUTE])
    first = (await alice.post(f"/jobs/{job['id']}/deactivate")).json()
    second = (await alice.post(f"/jobs/{job['id']}/deactivate")).json()
    assert first == second


async def test_an_edit_can_pause_and_resume(api: Api, alice: httpx2.AsyncClient) -> None:
    job = await create(alice, schedules=[EVERY_MINUTE])
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
    job = await create(alice, schedules=[EVERY_MINUTE])
    path = f"/jobs/{job['id']}"
    assert (await alice.get(path)).json()["pause_reason"] is None
    assert await api.runtime.jobs.pause_for_gone_receiver(await api.read_job(job))
    paused = (await alice.get(path)).json()
    assert (paused["active"], paused["pause_reason"]) == (False, "gone")
    assert (paused["next_run"], paused["revision"]) == (None, 2)
    resumed = (await alice.post(f"{path}/activate")).json()
    assert (resumed["active"], resumed["pause_reason"]) == (True, None)
    assert (await alice.post(f"{path}/deactivate")).json()["pause_reason"] is None


async def test_a_410_does_not_pause_a_job_that_was_edited_since(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create(alice, schedules=[EVERY_MINUTE])
    before = await api.read_job(job)
    await alice.patch(f"/jobs/{job['id']}", json={"description": "another receiver"})
    assert not await api.runtime.jobs.pause_for_gone_receiver(before)
    assert (await alice.get(f"/jobs/{job['id']}")).json()["active"] is True
    await alice.delete(f"/jobs/{job['id']}")
    assert not await api.runtime.jobs.pause_for_gone_receiver(before)


async def test_a_deleted_job_is_a_404_and_its_history_stays(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create(alice, schedules=[EVERY_MINUTE])
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
    async def wakes(method: str, path: str, **options: Any) -> bool:
        api.wake.schedules.clear()
        response = await alice.request(method, path, **options)
        assert response.is_success
        return api.wake.schedules.is_set()

    assert await wakes("POST", "/jobs", json={"name": "other", "interval": 60})
    job = await create(alice, schedules=[EVERY_MINUTE])
    path = f"/jobs/{job['id']}"
    assert await wakes("PATCH", path, json={"interval": 5})
    assert await wakes("POST", f"{path}/deactivate")
    assert await wakes("POST", f"{path}/activate")
    assert await wakes("DELETE", path)


async def test_an_edit_that_loses_every_race_is_a_conflict(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await create(alice)

    async def lose(*_: Any, **__: Any) -> bool:
        return False

    monkeypatch.setattr(api.jobs, "replace", lose)
    assert_problem(await alice.patch(f"/jobs/{job['id']}", json={"name": "other"}), 409)


async def test_an_edit_that_loses_a_race_is_repeated(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await create(alice, description="old")
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
