"""Cancel, retry and backfill, and executions of all jobs."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.models.execution import ExecutionStatus
from app.models.idempotency import ReservedId
from app.models.policy import OverlapPolicy
from app.models.user import Actor, Role
from app.repositories.leases import LeaseRepository
from app.schemas.executions import BackfillIn
from tests.support.api import Api, JsonBody, assert_problem
from tests.support.clock import START

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def job(alice: httpx2.AsyncClient) -> JsonBody:
    """A job with a slot every minute; no scheduler is running."""
    response = await alice.post("/jobs", json={"name": "a job", "interval": 60})
    created: JsonBody = response.json()
    return created


async def run(client: httpx2.AsyncClient, job: JsonBody, **body: Any) -> JsonBody:
    response = await client.post(f"/jobs/{job['id']}/execute", json=body)
    assert response.status_code == 202
    execution: JsonBody = response.json()
    assert response.headers["location"] == f"/executions/{execution['id']}"
    return execution


def leases(api: Api) -> LeaseRepository:
    return LeaseRepository(api.database, lease_owner="a worker", term=MINUTE)


async def cancel(client: httpx2.AsyncClient, execution: JsonBody) -> httpx2.Response:
    return await client.post(f"/executions/{execution['id']}/cancel")


async def test_a_queued_execution_is_cancelled_immediately(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    execution = await run(alice, job)
    response = await cancel(alice, execution)
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["reason"]) == (
        "cancelled",
        "cancelled_by_user",
    )
    assert await leases(api).claim(limit=1) == []
    assert (await cancel(alice, execution)).json() == response.json()


async def test_a_running_execution_is_asked_to_stop(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    execution = await run(alice, job)
    await leases(api).claim(limit=1)
    for _ in range(2):
        response = await cancel(alice, execution)
        assert response.status_code == 202
        assert response.json()["status"] == "running"
        assert response.json()["cancel_requested_at"] == "2026-11-23T08:00:00Z"


async def test_a_finished_execution_cannot_be_cancelled(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    await run(alice, job, overlap_policy="skip")
    skipped = await run(alice, job, overlap_policy="skip")
    assert skipped["status"] == "skipped"
    assert_problem(await cancel(alice, skipped), 409)


async def test_a_cancel_releases_the_next_waiting_execution(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    first = await run(alice, job, overlap_policy="buffer_one")
    held = await run(alice, job, overlap_policy="buffer_one")
    full = await run(alice, job, overlap_policy="buffer_one")
    assert (full["status"], full["reason"]) == ("skipped", "buffer_full")
    await cancel(alice, first)
    third = await run(alice, job, overlap_policy="skip")
    assert third["status"] == "skipped"  # the execution that was waiting is live now
    assert (await alice.get(f"/executions/{held['id']}")).json()["status"] == "queued"


async def test_a_finished_execution_can_be_retried(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    first = await run(alice, job, parameters={"n": 1})
    await cancel(alice, first)
    api.clock.advance(MINUTE)
    response = await alice.post(f"/executions/{first['id']}/retry")
    again = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/executions/{again['id']}"
    assert (again["kind"], again["retry_of"], again["status"]) == ("retry", first["id"], "queued")
    assert again["scheduled_for"] == first["scheduled_for"]
    assert again["parameters"] == {"n": 1}
    other = await alice.post(f"/executions/{first['id']}/retry", json={"parameters": {"n": 2}})
    assert other.json()["parameters"] == {"n": 2}


async def test_an_unfinished_execution_cannot_be_retried(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    execution = await run(alice, job)
    assert_problem(await alice.post(f"/executions/{execution['id']}/retry"), 409)


async def test_an_execution_of_a_deleted_job_cannot_be_retried(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    execution = await run(alice, job)
    await alice.delete(f"/jobs/{job['id']}")
    assert_problem(await alice.post(f"/executions/{execution['id']}/retry"), 409)


async def test_a_repeated_retry_with_a_key_is_one_execution(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    first = await run(alice, job)
    await cancel(alice, first)
    key = {"Idempotency-Key": "once"}
    responses = [
        await alice.post(f"/executions/{first['id']}/retry", headers=key) for _ in range(2)
    ]
    assert responses[0].json() == responses[1].json()
    assert len(await api.history(job)) == 2


def past(api: Api, minutes: int, **changes: Any) -> JsonBody:
    now = api.clock.now()
    start = now - timedelta(minutes=minutes)
    return {"start": start.isoformat(), "end": now.isoformat(), **changes}


async def test_a_dry_run_lists_the_slots_and_stores_nothing(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    api.clock.advance(10 * MINUTE)
    response = await alice.post(f"/jobs/{job['id']}/backfill", json=past(api, 10, dry_run=True))
    assert response.status_code == 200
    body = response.json()
    assert (body["count"], body["backfill_id"]) == (9, None)  # the end of the range is exclusive
    assert body["slots"][0]["scheduled_for"] == "2026-11-23T08:01:00Z"
    assert body["slots"][0]["schedule_id"] == job["schedules"][0]["id"]
    assert await api.history(job) == []


async def test_a_backfill_queues_each_slot_once_and_ten_per_second(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    api.clock.advance(10 * MINUTE)
    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        wanted = past(api, 10, overlap_policy="allow_all")
        response = await alice.post(f"/jobs/{job['id']}/backfill", json=wanted, headers=key)
        assert response.status_code == 202
    history = await api.history(job)
    assert [e.scheduled_for for e in history] == [START + n * MINUTE for n in range(1, 10)]
    assert {e.status for e in history} == {ExecutionStatus.QUEUED}
    assert {e.backfill_id for e in history} == {response.json()["backfill_id"]}
    assert [e.run_at - api.clock.now() for e in history] == [
        n * timedelta(milliseconds=100) for n in range(9)
    ]


async def test_a_backfill_runs_its_slots_one_after_the_other_by_default(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    api.clock.advance(10 * MINUTE)
    response = await alice.post(f"/jobs/{job['id']}/backfill", json=past(api, 10))
    assert response.json()["count"] == 9
    for n in range(1, 10):
        live, *waiting = [e for e in await api.history(job) if e.status is ExecutionStatus.QUEUED]
        assert (live.scheduled_for, live.waiting) == (START + n * MINUTE, False)
        assert [e.waiting for e in waiting] == [True] * (9 - n)
        await cancel(alice, {"id": live.id})


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        (OverlapPolicy.SKIP, [1]),
        (OverlapPolicy.BUFFER_ONE, [1, 2]),
        (OverlapPolicy.CANCEL_OTHER, [3]),
        (OverlapPolicy.TERMINATE_OTHER, [3]),
    ],
)
async def test_a_backfill_accepts_every_policy_and_can_be_repeated(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody, policy: OverlapPolicy, left: list[int]
) -> None:
    """The second call stands for a retry after a crash between the records and the response."""
    api.clock.advance(4 * MINUTE)
    actor = Actor(user_id=api.ids["alice"], username="alice", role=Role.EDITOR)
    wanted = BackfillIn.model_validate(past(api, 4, overlap_policy=policy))
    reserved = ReservedId(result_id=api.new_id(), again=True)
    for _ in range(2):
        await api.runtime.backfills.backfill(actor, job["id"], wanted, reserved=reserved)
        history = await api.history(job)
        assert [e.scheduled_for for e in history] == [START + n * MINUTE for n in (1, 2, 3)]
        queued = [e for e in history if e.status is ExecutionStatus.QUEUED]
        assert [e.scheduled_for for e in queued] == [START + n * MINUTE for n in left]


async def test_a_range_without_slots_starts_no_backfill(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    response = await alice.post(f"/jobs/{job['id']}/backfill", json=past(api, 60))
    assert (response.status_code, response.json()["count"]) == (200, 0)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"end": "2026-11-23T09:00:00Z"}, "/end"),  # the future
        ({"start": "2026-11-23T08:00:00Z", "end": "2026-11-23T08:00:00Z"}, "/end"),
        ({"start": "2025-01-01T00:00:00Z"}, "/end"),  # longer than 366 days
        ({"overlap_policy": "whatever"}, "/overlap_policy"),
        ({"schedule_id": "0" * 32}, "/schedule_id"),
        ({"start": "2026-11-01"}, "/start"),
        ({"until": "2026-11-01T00:00:00Z"}, "/until"),
    ],
)
async def test_an_invalid_range_names_the_field(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody, changes: JsonBody, pointer: str
) -> None:
    response = await alice.post(f"/jobs/{job['id']}/backfill", json=past(api, 10) | changes)
    body = assert_problem(response, 422)
    assert pointer in [error["pointer"] for error in body["errors"]]
    assert await api.history(job) == []


async def test_a_range_with_too_many_slots_is_refused_with_their_number(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    fast = (await alice.post("/jobs", json={"name": "fast", "interval": 1})).json()
    api.clock.advance(20 * MINUTE)
    path = f"/jobs/{fast['id']}/backfill"
    for minutes, policy, slots in (
        (20, "allow_all", 1199),
        (2, "skip", 120),
        (2, "buffer_all", 120),
    ):
        response = await alice.post(path, json=past(api, minutes, overlap_policy=policy))
        assert f"{slots} slots" in assert_problem(response, 422)["errors"][0]["detail"]
    assert await api.history(fast) == []


async def test_executions_are_listed_across_jobs(
    api: Api, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    jobs = [(await alice.post("/jobs", json={"name": f"job {n}"})).json() for n in range(3)]
    executions = []
    for n in range(6):
        api.clock.advance(MINUTE)
        executions.append(await run(alice, jobs[n % 3]))
    await cancel(alice, executions[0])
    newest_first = [execution["id"] for execution in reversed(executions)]

    async def ids(client: httpx2.AsyncClient, **params: Any) -> list[str]:
        found = (await client.get("/executions", params=params)).json()
        return [execution["id"] for execution in found["items"]]

    assert await ids(alice) == newest_first
    assert await ids(admin) == newest_first
    assert await ids(bob) == []
    assert await ids(alice, job_id=jobs[1]["id"]) == [newest_first[1], newest_first[4]]
    assert await ids(alice, status="cancelled") == [executions[0]["id"]]
    assert await ids(alice, status=["cancelled", "queued"]) == newest_first
    assert await ids(alice, kind="scheduled") == []
    since, until = executions[2]["scheduled_for"], executions[4]["scheduled_for"]
    assert await ids(alice, **{"from": since, "to": until}) == newest_first[2:4]


async def test_pages_continue_after_the_previous_one_and_keep_their_filters(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    for _ in range(5):
        await run(alice, job)  # at the same instant
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


async def test_a_viewer_changes_nothing(
    alice: httpx2.AsyncClient, viewer: httpx2.AsyncClient, job: JsonBody
) -> None:
    execution = await run(alice, job)
    assert_problem(await cancel(viewer, execution), 403)
    assert_problem(await viewer.post(f"/executions/{execution['id']}/retry"), 403)
