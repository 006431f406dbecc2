"""How late executions start, and how long their attempts take."""

from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.support.api import Api, JsonBody, create_job


def make_attempt(number: int, started_at: datetime, milliseconds: int | None) -> JsonBody:
    ended = {}
    if milliseconds is not None:
        ended = {"finished_at": started_at + timedelta(milliseconds=milliseconds)}
    return {"number": number, "job_revision": 1, "started_at": started_at, **ended}


async def store_attempts(api: Api, execution_id: str, *attempts: JsonBody, **fields: Any) -> None:
    stored = api.database.collection("executions")
    changes = {"$set": {"attempts": list(attempts), "status": "running", **fields}}
    await stored.update_one({"_id": execution_id}, changes)


@pytest.fixture
async def execution(alice: httpx2.AsyncClient) -> JsonBody:
    job = await create_job(alice)
    queued: JsonBody = (await alice.post(f"/jobs/{job['id']}/execute")).json()
    return queued


async def test_each_attempt_has_its_duration(
    api: Api, alice: httpx2.AsyncClient, execution: JsonBody
) -> None:
    now = api.clock.now()
    tries = [make_attempt(1, now, 1_164), make_attempt(2, now, 60_000), make_attempt(3, now, None)]
    await store_attempts(api, execution["id"], *tries)
    whole = (await alice.get(f"/executions/{execution['id']}")).json()
    (partial,) = (await alice.get("/executions")).json()["items"]
    for shown in (whole, partial):
        assert [one["duration_seconds"] for one in shown["attempts"]] == [1.164, 60, None]
    assert '"duration_seconds":60}' in (await alice.get("/executions")).text


async def test_the_start_delay_is_that_of_the_first_attempt(
    api: Api, alice: httpx2.AsyncClient, execution: JsonBody
) -> None:
    assert execution["start_delay_seconds"] is None
    started = api.clock.now() + timedelta(milliseconds=250)
    tries = [make_attempt(1, started, 5), make_attempt(2, started + timedelta(hours=1), 5)]
    await store_attempts(api, execution["id"], *tries, run_at=started + timedelta(hours=1))
    whole = (await alice.get(f"/executions/{execution['id']}")).json()
    (partial,) = (await alice.get("/executions")).json()["items"]
    assert whole["start_delay_seconds"] == partial["start_delay_seconds"] == 0.25


@pytest.mark.parametrize(
    ("kind", "delay"), [("scheduled", 3_602), ("manual", 3_602), ("retry", 2), ("backfill", 2)]
)
async def test_the_start_delay_counts_from_the_slot_or_from_a_request_for_a_past_slot(
    api: Api, alice: httpx2.AsyncClient, execution: JsonBody, kind: str, delay: int
) -> None:
    created_at = api.clock.now()
    changes = {"kind": kind, "scheduled_for": created_at - timedelta(hours=1)}
    started = created_at + timedelta(seconds=2)
    await store_attempts(api, execution["id"], make_attempt(1, started, None), **changes)
    shown = (await alice.get(f"/executions/{execution['id']}")).json()
    assert shown["start_delay_seconds"] == delay


async def test_no_time_is_negative_after_the_clock_was_set_back(
    api: Api, alice: httpx2.AsyncClient, execution: JsonBody
) -> None:
    started = api.clock.now() - timedelta(seconds=5)
    await store_attempts(api, execution["id"], make_attempt(1, started, -1_000))
    shown = (await alice.get(f"/executions/{execution['id']}")).json()
    assert shown["start_delay_seconds"] == shown["attempts"][0]["duration_seconds"] == 0
