"""Expensive requests take turns: what is computed in one turn of the event loop is bounded."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from zoneinfo import available_timezones

import httpx2
import pytest

from app.repositories import executions
from app.routers import json_route
from app.services import backfills, forecasts
from app.triggers import cron, zone_offsets
from tests.support.api import Api, JsonBody

EVERY_SECOND = {"type": "cron", "cron_expression": "* * * * * *", "seconds": True}


class Steps:
    """Counts calls between the waits of a request for its turn."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.counts = [0]

    def watch(self, module: object, *, wait: str, expensive: tuple[str, ...]) -> None:
        async def wait_for_turn() -> None:
            self.counts.append(0)

        self._patch.setattr(module, wait, wait_for_turn)
        for name in expensive:
            self.count_calls(module, name)

    def count_calls(self, module: object, name: str) -> None:
        self._patch.setattr(module, name, self._count(getattr(module, name)))

    def _count(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.counts[-1] += 1
            return function(*args, **options)

        return counted


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


async def test_new_zones_of_a_body_have_a_turn_of_their_own(
    alice: httpx2.AsyncClient, steps: Steps
) -> None:
    cron._parse.cache_clear()
    zone_offsets.offsets_of.cache_clear()
    zones = sorted(key for key in available_timezones() if key.startswith("America/"))[:20]
    schedules = [EVERY_SECOND | {"timezone": zone} for zone in zones]
    steps.watch(json_route, wait="wait_for_loop_turn", expensive=())
    steps.count_calls(zone_offsets, "_compute_spans")
    for few in (schedules[:5], schedules[5:]):
        response = await alice.post("/jobs", json={"name": "a job", "schedules": few})
        assert response.status_code == 201
    assert steps.counts == [0, 5, 15]


async def test_next_runs_compute_only_what_they_show_and_in_many_turns(
    alice: httpx2.AsyncClient, steps: Steps
) -> None:
    body = {"name": "a job", "schedules": [EVERY_SECOND] * 20}
    job = (await alice.post("/jobs", json=body)).json()
    expensive = ("next_slot", "describe")
    steps.watch(forecasts, wait="wait_for_loop_turn", expensive=expensive)
    shown = await alice.get(f"/jobs/{job['id']}/next-runs", params={"count": 100})
    assert len(shown.json()["next_runs"]) == 100
    assert sum(steps.counts) < 20 + 100 + 20 + 1  # descriptions, slots and the next slot of each
    assert steps.counts[0] == 0
    assert max(steps.counts) <= 20 + 20


async def test_a_preview_computes_its_slots_in_many_turns(
    alice: httpx2.AsyncClient, steps: Steps
) -> None:
    steps.watch(forecasts, wait="wait_for_loop_turn", expensive=("next_slot", "describe"))
    shown = await alice.post("/schedules/preview", params={"count": 100}, json=EVERY_SECOND)
    assert len(shown.json()["next_runs"]) == 100
    assert steps.counts[0] == 0
    assert max(steps.counts) <= 20 + 1


async def backfill(client: httpx2.AsyncClient, api: Api, **changes: Any) -> httpx2.Response:
    """Backfill the 120 slots before now of a new job."""
    job: JsonBody = (await client.post("/jobs", json={"name": "a job", "interval": 1})).json()
    api.clock.advance(timedelta(seconds=121))
    now = api.clock.now()
    start = now - timedelta(seconds=120)
    body = {"start": start.isoformat(), "end": now.isoformat(), "overlap_policy": "allow_all"}
    return await client.post(f"/jobs/{job['id']}/backfill", json=body | changes)


async def test_a_backfill_builds_and_stores_its_executions_in_many_turns(
    api: Api, alice: httpx2.AsyncClient, steps: Steps
) -> None:
    steps.watch(backfills, wait="wait_for_loop_turn", expensive=("next_slot",))
    steps.count_calls(executions, "to_document")
    response = await backfill(alice, api)
    assert (response.status_code, response.json()["count"]) == (202, 120)
    assert sum(steps.counts) >= 120 + 120
    assert max(steps.counts) <= 60 + 1


async def test_a_user_has_one_backfill_in_progress(
    api: Api, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    async with api.runtime.backfills._in_progress.enter(api.ids["alice"]):
        # It needs fewer steps than that of the other user.
        waiting = asyncio.create_task(backfill(alice, api, dry_run=True))
        assert (await backfill(bob, api)).status_code == 202
        assert not waiting.done()
    assert (await waiting).status_code == 200
