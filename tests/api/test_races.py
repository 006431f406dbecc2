"""Simultaneous edits, pauses and firings of a job record each slot once, and nothing else."""

import asyncio
from datetime import timedelta

import httpx2

from app.models.execution import ExecutionStatus
from tests.support.api import Api
from tests.support.clock import START

EVERY_SECOND = {"type": "interval", "interval_seconds": 1}


async def test_renaming_while_the_scheduler_fires_records_each_slot_once(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    body = {"name": "x", "schedules": [EVERY_SECOND], "overlap_policy": "allow_all"}
    job = (await alice.post("/jobs", json=body)).json()

    async def rename(name: str) -> None:
        response = await alice.patch(f"/jobs/{job['id']}", json={"name": name})
        assert response.status_code in {200, 409}

    for second in range(20):
        api.clock.advance(timedelta(seconds=1))
        await asyncio.gather(
            api.fire_due(),
            rename(f"{second}a"),
            api.fire_due(),
            rename(f"{second}b"),
            api.fire_due(),
        )
        await api.fire_due()
    fired = await api.list_executions(job)
    assert [e.scheduled_for for e in fired] == [START + timedelta(seconds=i + 1) for i in range(20)]


async def test_pausing_while_the_scheduler_fires_ends_with_a_record_for_every_slot(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    body = {"name": "x", "schedules": [EVERY_SECOND], "overlap_policy": "allow_all"}
    job = (await alice.post("/jobs", json=body)).json()
    firing = api.runtime.firing
    for _ in range(10):
        api.clock.advance(timedelta(seconds=1))
        now = api.clock.now()
        due = await api.jobs.list_due(now, limit=10)
        await asyncio.gather(
            alice.post(f"/jobs/{job['id']}/deactivate"),
            firing.fire(due, now),
            firing.fire(due, now),
        )
        stored = await api.read_job(job)
        assert stored.active is False
        assert stored.next_run is None
        assert (await alice.post(f"/jobs/{job['id']}/activate")).status_code == 200
    fired = await api.list_executions(job)
    assert [e.scheduled_for for e in fired] == [START + timedelta(seconds=i + 1) for i in range(10)]
    assert {e.status for e in fired} == {ExecutionStatus.QUEUED}


async def test_simultaneous_edits_all_take_effect(api: Api, alice: httpx2.AsyncClient) -> None:
    job = (await alice.post("/jobs", json={"name": "x"})).json()
    edits = [{"name": "y"}, {"description": "d"}, {"tags": ["t"]}, {"timeout_seconds": 5}]
    responses = await asyncio.gather(
        *(alice.patch(f"/jobs/{job['id']}", json=edit) for edit in edits)
    )
    assert {response.status_code for response in responses} == {200}
    stored = await api.read_job(job)
    assert (stored.name, stored.description, stored.tags, stored.timeout_seconds) == (
        "y",
        "d",
        ("t",),
        5,
    )
    assert stored.revision == 5
