"""The body that GET returned, sent back by PUT, changes nothing, for every kind of job.

test_sent_back.py tests listings, PATCH, single schedules, and which fields are ignored.
"""

from datetime import timedelta

import httpx2
import pytest

from app.models.policy import CatchUpMode, OverlapPolicy, RetryStrategy
from app.models.schedule import MAX_SCHEDULES
from app.triggers.cron import Dst
from tests.support.api import Api, JsonBody, create_job
from tests.support.clock import START
from tests.support.round_trips import read_stored, without_what_every_edit_changes


def in_minutes(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat()


CRON: JsonBody = {"type": "cron", "cron_expression": "*/2 * * * *"}
INTERVAL: JsonBody = {"type": "interval", "interval_seconds": 60}
ONE_TIME: JsonBody = {"type": "one_time", "run_at": in_minutes(2)}
BOUNDS: JsonBody = {"start_at": in_minutes(-3), "end_at": in_minutes(600), "jitter_seconds": 5}

JOBS: dict[str, JsonBody] = {
    "without schedules": {},
    "cron": {"schedules": [CRON]},
    "cron in a zone with bounds": {
        "schedules": [{**CRON, **BOUNDS, "timezone": "America/New_York", "max_runs": 9}]
    },
    "cron with seconds": {
        "schedules": [{**CRON, "cron_expression": "*/10 * * * * *", "seconds": True}]
    },
    **{f"cron with dst {dst}": {"schedules": [{**CRON, "dst": dst}]} for dst in Dst},
    "short form of cron": {"cron_expression": "0 9 * * MON", "timezone": "Europe/Berlin"},
    "short form of cron with seconds": {"cron_expression": "*/10 * * * * *", "seconds": True},
    "interval": {"schedules": [INTERVAL]},
    "interval with bounds": {"schedules": [{**INTERVAL, **BOUNDS}]},
    "interval that ends": {"schedules": [{**INTERVAL, "end_at": in_minutes(3)}]},
    "interval with its only run": {"schedules": [{**INTERVAL, "max_runs": 1}]},
    "inactive interval": {"schedules": [{**INTERVAL, "active": False}]},
    "short form of interval": {"interval": 60, "next_run": in_minutes(1)},
    "one-time": {"schedules": [ONE_TIME]},
    "one-time in the future": {"schedules": [{**ONE_TIME, "run_at": in_minutes(999)}]},
    "several schedules": {"schedules": [CRON, INTERVAL, ONE_TIME, {**CRON, "dst": "skip"}]},
    "equal schedules": {"schedules": [INTERVAL] * MAX_SCHEDULES},
    "paused": {"active": False, "schedules": [CRON, ONE_TIME]},
    **{f"overlap {p}": {"overlap_policy": p, "schedules": [INTERVAL]} for p in OverlapPolicy},
    **{
        f"catch-up {mode}": {
            "catch_up": {"policy": mode, "window_seconds": 5},
            "schedules": [INTERVAL],
        }
        for mode in CatchUpMode
    },
    **{
        f"retry {strategy}": {
            "retry": {
                "strategy": strategy,
                "max_attempts": 4,
                "delay_seconds": 0.5,
                "max_delay_seconds": 60,
                "retry_on": ["timeout", "5xx", 429],
            }
        }
        for strategy in RetryStrategy
    },
    "http target": {
        "target": {
            "type": "http",
            "url": "https://example.com/hook?a=%20",
            "method": "PUT",
            "headers": {"X-A": "b"},
            "body": {"a": [1, None, "é"]},
            "success_statuses": [200, 404],
        },
        "timeout_seconds": 0.5,
        "description": "d",
        "tags": ["a", "b"],
        "parameters": {"$a.b": {"c": [True, 1.5]}},
    },
}


async def assert_a_round_trip_changes_nothing(
    api: Api, client: httpx2.AsyncClient, job: JsonBody
) -> None:
    path = f"/jobs/{job['id']}"
    before, stored = await client.get(path), await read_stored(api, job)
    headers = {"If-Match": before.headers["etag"]}
    response = await client.put(path, json=before.json(), headers=headers)
    assert response.status_code == 200, response.text
    assert await read_stored(api, job) == stored
    after = without_what_every_edit_changes(response.json())
    assert after == without_what_every_edit_changes(before.json())
    assert response.json()["revision"] == before.json()["revision"] + 1


@pytest.mark.parametrize("kind", JOBS)
async def test_a_job_that_is_sent_back_stays_as_it_is_before_and_after_its_slots(
    api: Api, alice: httpx2.AsyncClient, kind: str
) -> None:
    job = await create_job(alice, **JOBS[kind])
    await assert_a_round_trip_changes_nothing(api, alice, job)
    api.clock.advance(timedelta(minutes=5))
    await api.fire_due()
    await assert_a_round_trip_changes_nothing(api, alice, job)
    executions = len(await api.list_executions(job))
    await api.fire_due()
    assert len(await api.list_executions(job)) == executions
