"""Edits change the named fields and keep the others. No slot is lost or added."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.models.schedule import next_slot
from tests.support.api import Api, JsonBody
from tests.support.clock import START

FULL: JsonBody = {
    "name": "full",
    "description": "d",
    "tags": ["t"],
    "target": {
        "type": "http",
        "method": "PUT",
        "url": "https://example.com/",
        "headers": {"X-A": "1"},
    },
    "parameters": {"a": 1, "b": {"c": 2}},
    "schedules": [{"type": "interval", "interval_seconds": 60, "jitter_seconds": 5}],
    "retry": {"max_attempts": 5, "delay_seconds": 7},
    "timeout_seconds": 30,
    "overlap_policy": "allow_all",
    "catch_up": {"policy": "all", "window_seconds": 600},
}
CHANGED_BY_EVERY_EDIT = {"revision", "updated_at"}


@pytest.fixture
async def full(alice: httpx2.AsyncClient) -> JsonBody:
    response = await alice.post("/jobs", json=FULL)
    assert response.status_code == 201, response.text
    job: JsonBody = response.json()
    return job


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("edit", "after"),
    [
        ({}, {}),
        ({"name": "other"}, {"name": "other"}),
        ({"description": ""}, {"description": ""}),
        ({"tags": []}, {"tags": []}),
        ({"parameters": {"b": 1}}, {"parameters": {"b": 1}}),
        ({"timeout_seconds": 31}, {"timeout_seconds": 31, "effective_timeout_seconds": 31}),
        ({"overlap_policy": "skip"}, {"overlap_policy": "skip"}),
        ({"active": True}, {}),
        ({"retry": {"max_attempts": 2}}, {"retry.max_attempts": 2}),
        ({"target": {"url": "https://example.org/"}}, {"target.url": "https://example.org/"}),
        ({"target": {"headers": {}}}, {"target.headers": {}}),
        ({"schedules": FULL["schedules"]}, {}),
    ],
)
async def test_only_named_fields_change(
    api: Api, alice: httpx2.AsyncClient, full: JsonBody, method: str, edit: Any, after: JsonBody
) -> None:
    pending = (await api.read_job(full)).next_run
    api.clock.advance(timedelta(seconds=90))  # a slot is due and not recorded yet
    response = await alice.request(method, f"/jobs/{full['id']}", json=edit)
    assert response.status_code == 200
    expected = {**full}
    for name, value in after.items():
        outer, _, inner = name.partition(".")
        expected[outer] = {**full[outer], inner: value} if inner else value
    changed = response.json()
    assert {k: v for k, v in changed.items() if k not in CHANGED_BY_EVERY_EDIT} == {
        k: v for k, v in expected.items() if k not in CHANGED_BY_EVERY_EDIT
    }
    assert (await api.read_job(full)).next_run == pending
    assert await api.list_executions(full) == []


@pytest.mark.parametrize(
    ("edit", "seconds"),
    [
        ({"schedule_config": {"seconds": 20}}, 20),
        ({"schedule_config": {"minutes": 1, "seconds": 5}}, 65),
        ({"schedule_type": "interval", "schedule_config": {"hours": 1}}, 3_600),
        ({"interval": 20}, 20),
        ({"interval": "PT20S"}, 20),
    ],
)
async def test_a_partial_short_form_changes_only_the_period_and_next_run(
    alice: httpx2.AsyncClient, full: JsonBody, edit: JsonBody, seconds: int
) -> None:
    changed = (await alice.put(f"/jobs/{full['id']}", json=edit)).json()
    [before], [after] = full["schedules"], changed["schedules"]
    assert after["interval_seconds"] == seconds
    same = set(before) - {"interval_seconds", "next_run"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    untouched = set(FULL) - {"schedules"}
    assert {name: changed[name] for name in untouched} == {name: full[name] for name in untouched}


async def test_a_short_form_without_a_change_does_not_affect_pending_slots(
    api: Api, alice: httpx2.AsyncClient, full: JsonBody
) -> None:
    api.clock.advance(timedelta(seconds=90))
    response = await alice.put(f"/jobs/{full['id']}", json={"schedule_config": {"seconds": 60}})
    assert response.json()["next_run"] == full["next_run"]
    assert await api.list_executions(full) == []


async def test_changing_the_schedule_while_it_fires_loses_and_adds_no_slot(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    """Each period applies from its edit until the next edit. The expected slots are computed from
    these periods."""
    body = {"name": "x", "interval": 1, "overlap_policy": "allow_all"}
    job = (await alice.post("/jobs", json=body)).json()
    expected = []
    for step in range(24):
        [schedule] = (await api.read_job(job)).schedules
        started_at = api.clock.now()
        api.clock.advance(timedelta(seconds=1 + step % 3))
        slot = next_slot(schedule, started_at)
        while slot is not None and slot <= api.clock.now():
            expected.append(slot)
            slot = next_slot(schedule, slot)
        edit = {"schedule_config": {"seconds": 1 + (step + 1) % 3}}
        responses = await asyncio.gather(
            api.fire_due(),
            alice.put(f"/jobs/{job['id']}", json=edit),
            api.fire_due(),
            api.fire_due(),
        )
        assert responses[1].status_code == 200
    await api.fire_due()
    slots = [execution.scheduled_for for execution in await api.list_executions(job)]
    assert slots == expected
    assert len(slots) == len(set(slots)) >= 20
    assert slots[0] == START + timedelta(seconds=1)


async def test_slots_that_are_due_before_an_edit_of_catch_up_follow_the_earlier_policy(
    api: Api, alice: httpx2.AsyncClient, full: JsonBody
) -> None:
    """Otherwise a scheduler that read the job before the edit could decide in another way."""
    api.clock.advance(timedelta(seconds=90))
    edit = {"catch_up": {"policy": "none"}}
    changed = (await alice.patch(f"/jobs/{full['id']}", json=edit)).json()
    assert changed["catch_up"] == {"policy": "none", "window_seconds": 600}
    [execution] = await api.list_executions(full)
    assert execution.status == "queued"
    assert changed["next_run"] > full["next_run"]


async def test_a_higher_max_runs_brings_an_exhausted_schedule_back_to_life(
    api: Api, alice: httpx2.AsyncClient, full: JsonBody
) -> None:
    [schedule] = full["schedules"]
    path = f"/schedules/{schedule['id']}"
    assert (await alice.patch(path, json={"max_runs": 1})).status_code == 200
    api.clock.advance(timedelta(seconds=60))
    await api.fire_due()
    exhausted = await api.read_job(full)
    assert (exhausted.next_run, exhausted.schedules[0].runs) == (None, 1)
    api.clock.advance(timedelta(seconds=600))

    assert (await alice.patch(path, json={"max_runs": 2})).status_code == 200
    assert (await api.read_job(full)).next_run == api.clock.now() + timedelta(seconds=60)
    for _ in range(3):
        api.clock.advance(timedelta(seconds=60))
        await api.fire_due()
    exhausted = await api.read_job(full)
    assert (exhausted.next_run, exhausted.schedules[0].runs) == (None, 2)
    assert len(await api.list_executions(full)) == 2
