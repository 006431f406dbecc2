"""Attacks with schedules that are expensive to compute: new time zones, rare days, many slots."""

import asyncio
from collections import Counter
from typing import Any
from zoneinfo import available_timezones

import httpx2

from tests.chaos.hostile.calls import Call, create_job, delete_jobs, send_all

_MOST_SCHEDULES = 20
_AT_ONCE = 100
_RAREST = "59 59 23 29 2 */7"
"""The end of 29 February if it is a Sunday: every 28 years."""


async def name_every_zone(client: httpx2.AsyncClient) -> dict[str, Counter[int]]:
    """Name all time zones, in jobs of 20 schedules and in previews. In a process that has seen none
    of them, the service computes their clock changes."""
    zones = sorted(available_timezones() - {"Factory", "localtime", "posixrules"})
    groups = [zones[n : n + _MOST_SCHEDULES] for n in range(0, len(zones), _MOST_SCHEDULES)]
    jobs: list[Call] = [
        ("POST", "/jobs", {"json": {"name": "zones", "schedules": [_rare_in(z) for z in group]}})
        for group in groups
    ]
    previews: list[Call] = [("POST", "/schedules/preview", {"json": _rare_in(z)}) for z in zones]
    found = {
        "jobs": await send_all(client, jobs, at_once=_AT_ONCE),
        "previews": await send_all(client, previews, at_once=_AT_ONCE),
    }
    await delete_jobs(client)
    return found


async def request_expensive_slots(
    client: httpx2.AsyncClient, *, requests: int = 1_000
) -> Counter[int]:
    """Ask for 100 slots of 20 rare schedules, of dense ones, and for previews, 100 at once."""
    dense = {"type": "cron", "seconds": True, "timezone": "America/New_York"}
    expressions = [f"{n}-59 * * 29,30,31 2-12/5 *" for n in range(_MOST_SCHEDULES)]
    schedules: list[list[dict[str, Any]]] = [
        [_rare_in("America/Santiago", hour) for hour in range(_MOST_SCHEDULES)],
        [{**dense, "cron_expression": expression} for expression in expressions],
    ]
    jobs = [await create_job(client, schedules=some) for some in schedules]
    calls: list[Call] = [
        *(("GET", f"/jobs/{job_id}/next-runs?count=100", {}) for job_id in jobs),
        *(("POST", "/schedules/preview?count=100", {"json": some[0]}) for some in schedules),
    ]
    statuses = await send_all(client, calls * (requests // len(calls)), at_once=_AT_ONCE)
    await delete_jobs(client)
    return statuses


def _rare_in(zone: str, hour: int = 23) -> dict[str, Any]:
    expression = _RAREST.replace("23", str(hour))
    return {"type": "cron", "seconds": True, "cron_expression": expression, "timezone": zone}


async def fire_dense_schedules(
    client: httpx2.AsyncClient, *, jobs: int = 200, seconds: float = 60
) -> Counter[int]:
    """Let 200 jobs have 20 schedules of one second each: 4,000 slots a second."""
    schedule = {"type": "interval", "interval_seconds": 1}
    body = {
        "name": "dense",
        "schedules": [schedule] * _MOST_SCHEDULES,
        "overlap_policy": "allow_all",
    }
    statuses = await send_all(client, [("POST", "/jobs", {"json": body})] * jobs, at_once=8)
    await asyncio.sleep(seconds)
    await delete_jobs(client)
    return statuses
