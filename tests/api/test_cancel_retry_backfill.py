"""Cancel, retry and backfill."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.models.execution import ExecutionStatus
from app.models.idempotency import ReservedId
from app.models.policy import OverlapPolicy
from app.models.user import Actor, Role
from app.repositories.executions import ExecutionRepository
from app.repositories.leases import LeaseRepository
from app.schemas.executions import BackfillIn
from app.services.backfills import MAX_SLOTS
from tests.support.api import Api, JsonBody, assert_problem
from tests.support.clock import START
from tests.support.ids import make_id

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def job(alice: httpx2.AsyncClient) -> JsonBody:
    """A job with a slot every minute; no scheduler is running."""
    response = await alice.post("/jobs", json={"name": "a job", "interval": 60})
    created: JsonBody = response.json()
    return created


async def execute(client: httpx2.AsyncClient, job: JsonBody, **body: Any) -> JsonBody:
    response = await client.post(f"/jobs/{job['id']}/execute", json=body)
    assert response.status_code == 202
    execution: JsonBody = response.json()
    assert response.headers["location"] == f"/executions/{execution['id']}"
    return execution


def open_leases(api: Api) -> LeaseRepository:
    return LeaseRepository(api.database, lease_owner="a worker", term=MINUTE)


async def cancel(client: httpx2.AsyncClient, execution: JsonBody) -> httpx2.Response:
    return await client.post(f"/executions/{execution['id']}/cancel")


async def test_a_queued_execution_is_cancelled_immediately(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    execution = await execute(alice, job)
    response = await cancel(alice, execution)
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["reason"]) == (
        "cancelled",
        "cancelled_by_user",
    )
    assert await open_leases(api).claim({job["owner_id"]: 1}) is None
    assert (await cancel(alice, execution)).json() == response.json()


async def test_a_running_execution_is_asked_to_stop(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    execution = await execute(alice, job)
    await open_leases(api).claim({job["owner_id"]: 1})
    for _ in range(2):
        response = await cancel(alice, execution)
        assert response.status_code == 202
        assert response.json()["status"] == "running"
        assert response.json()["cancel_requested_at"] == "2026-11-23T08:00:00Z"


async def test_a_finished_execution_cannot_be_cancelled(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    await execute(alice, job, overlap_policy="skip")
    skipped = await execute(alice, job, overlap_policy="skip")
    assert skipped["status"] == "skipped"
    assert_problem(await cancel(alice, skipped), 409)


async def test_a_cancel_promotes_the_next_waiting_execution(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    first = await execute(alice, job, overlap_policy="buffer_one")
    waiting = await execute(alice, job, overlap_policy="buffer_one")
    full = await execute(alice, job, overlap_policy="buffer_one")
    assert (full["status"], full["reason"]) == ("skipped", "buffer_full")
    await cancel(alice, first)
    third = await execute(alice, job, overlap_policy="skip")
    assert third["status"] == "skipped"  # the execution that was waiting is live now
    assert (await alice.get(f"/executions/{waiting['id']}")).json()["status"] == "queued"


async def test_a_finished_execution_can_be_retried(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    first = await execute(alice, job, parameters={"n": 1})
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
    none = await alice.post(f"/executions/{first['id']}/retry", json={"parameters": {}})
    assert none.json()["parameters"] == {}


async def test_an_unfinished_execution_cannot_be_retried(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    execution = await execute(alice, job)
    assert_problem(await alice.post(f"/executions/{execution['id']}/retry"), 409)


async def test_an_execution_of_a_deleted_job_cannot_be_retried(
    alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    execution = await execute(alice, job)
    await alice.delete(f"/jobs/{job['id']}")
    assert_problem(await alice.post(f"/executions/{execution['id']}/retry"), 409)


async def test_a_repeated_retry_with_a_key_is_one_execution(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    first = await execute(alice, job)
    await cancel(alice, first)
    key = {"Idempotency-Key": "once"}
    responses = [
        await alice.post(f"/executions/{first['id']}/retry", headers=key) for _ in range(2)
    ]
    assert responses[0].json() == responses[1].json()
    assert len(await api.list_executions(job)) == 2


def make_past_range(api: Api, minutes: int, **changes: Any) -> JsonBody:
    now = api.clock.now()
    start = now - timedelta(minutes=minutes)
    return {"start": start.isoformat(), "end": now.isoformat(), **changes}


async def test_a_dry_run_lists_the_slots_and_stores_nothing(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    api.clock.advance(10 * MINUTE)
    response = await alice.post(
        f"/jobs/{job['id']}/backfill", json=make_past_range(api, 10, dry_run=True)
    )
    assert response.status_code == 200
    body = response.json()
    assert (body["count"], body["backfill_id"]) == (9, None)  # the end of the range is exclusive
    assert body["slots"][0]["scheduled_for"] == "2026-11-23T08:01:00Z"
    assert body["slots"][0]["schedule_id"] == job["schedules"][0]["id"]
    assert await api.list_executions(job) == []


async def test_a_backfill_queues_each_slot_once_and_ten_per_second(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    api.clock.advance(10 * MINUTE)
    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        wanted = make_past_range(api, 10, overlap_policy="allow_all")
        response = await alice.post(f"/jobs/{job['id']}/backfill", json=wanted, headers=key)
        assert response.status_code == 202
    history = await api.list_executions(job)
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
    response = await alice.post(f"/jobs/{job['id']}/backfill", json=make_past_range(api, 10))
    assert response.json()["count"] == 9
    for n in range(1, 10):
        live, *waiting = [
            e for e in await api.list_executions(job) if e.status is ExecutionStatus.QUEUED
        ]
        assert (live.scheduled_for, live.waiting) == (START + n * MINUTE, False)
        assert [e.waiting for e in waiting] == [True] * (9 - n)
        await cancel(alice, {"id": live.id})


@pytest.mark.parametrize("policy", OverlapPolicy)
async def test_a_backfill_wakes_the_workers_only_after_its_last_slot(
    api: Api,
    alice: httpx2.AsyncClient,
    job: JsonBody,
    policy: OverlapPolicy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All slots are treated as due now, so none may end before the last one is inserted."""
    api.clock.advance(10 * MINUTE)
    events: list[str] = []
    insert_many = ExecutionRepository.insert_many

    async def insert(repository: ExecutionRepository, executions: Any) -> Any:
        events.append("insert")
        return await insert_many(repository, executions)

    monkeypatch.setattr(ExecutionRepository, "insert_many", insert)
    monkeypatch.setattr(api.wake, "wake_workers", lambda: events.append("wake"))
    body = make_past_range(api, 10, overlap_policy=policy)
    assert (await alice.post(f"/jobs/{job['id']}/backfill", json=body)).status_code == 202
    assert events[-1] == "wake"
    assert events.count("wake") == 1


@pytest.mark.parametrize(
    ("policy", "queued_slots"),
    [
        (OverlapPolicy.SKIP, [1]),
        (OverlapPolicy.BUFFER_ONE, [1, 2]),
        (OverlapPolicy.CANCEL_OTHER, [3]),
        (OverlapPolicy.TERMINATE_OTHER, [3]),
    ],
)
async def test_a_backfill_accepts_every_policy_and_can_be_repeated(
    api: Api, job: JsonBody, policy: OverlapPolicy, queued_slots: list[int]
) -> None:
    """The second call is the request that a client repeats after a crash between the records and
    the response."""
    api.clock.advance(4 * MINUTE)
    actor = Actor(user_id=api.ids["alice"], username="alice", role=Role.EDITOR)
    wanted = BackfillIn.model_validate(make_past_range(api, 4, overlap_policy=policy))
    reserved = ReservedId(result_id=make_id(api.clock), again=True)
    for _ in range(2):
        await api.runtime.backfills.backfill(actor, job["id"], wanted, reserved=reserved)
        history = await api.list_executions(job)
        assert [e.scheduled_for for e in history] == [START + n * MINUTE for n in (1, 2, 3)]
        queued = [e for e in history if e.status is ExecutionStatus.QUEUED]
        assert [e.scheduled_for for e in queued] == [START + n * MINUTE for n in queued_slots]


async def test_a_range_without_slots_starts_no_backfill(
    api: Api, alice: httpx2.AsyncClient, job: JsonBody
) -> None:
    response = await alice.post(f"/jobs/{job['id']}/backfill", json=make_past_range(api, 60))
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
    response = await alice.post(
        f"/jobs/{job['id']}/backfill", json=make_past_range(api, 10) | changes
    )
    body = assert_problem(response, 422)
    assert pointer in [error["pointer"] for error in body["errors"]]
    assert await api.list_executions(job) == []


async def test_a_range_with_too_many_slots_is_rejected_with_their_number(
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
        response = await alice.post(path, json=make_past_range(api, minutes, overlap_policy=policy))
        assert f"{slots} slots" in assert_problem(response, 422)["errors"][0]["detail"]
    assert await api.list_executions(fast) == []


async def test_a_range_with_exactly_the_most_slots_is_accepted(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    """The slot at the end of the range does not count."""
    fast = (await alice.post("/jobs", json={"name": "fast", "interval": 1})).json()
    api.clock.advance(timedelta(seconds=MAX_SLOTS + 1))
    wanted = make_past_range(api, 60, overlap_policy="allow_all", dry_run=True)
    response = await alice.post(f"/jobs/{fast['id']}/backfill", json=wanted)
    assert (response.status_code, response.json()["count"]) == (200, MAX_SLOTS)
