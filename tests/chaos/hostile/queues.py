"""Attacks with many stored records: backfills, deletions and edits of jobs with long queues, and
listings of many jobs."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from tests.chaos.hostile.calls import Call, create_job, delete_jobs, send_all

BACKFILLS = 121
_SLOTS = 1_000
"""The most slots of a backfill."""
_JOBS = 20
_BACKFILLS_OF_A_JOB = 5
_LISTED_JOBS = 10_000


async def backfill_at_once(client: httpx2.AsyncClient) -> Counter[int]:
    """Backfill 1,000 slots 121 times, all at once."""
    job_id = await _create_old_job(client)
    statuses = await send_all(client, _list_backfills(job_id, BACKFILLS), at_once=BACKFILLS)
    await delete_jobs(client)
    return statuses


async def change_long_queues(client: httpx2.AsyncClient) -> dict[str, Counter[int]]:
    """Edit and then delete 20 jobs, each of which has some 5,000 queued executions, at once."""
    jobs = [await _create_old_job(client) for _ in range(_JOBS)]
    backfills = [call for job in jobs for call in _list_backfills(job, _BACKFILLS_OF_A_JOB)]
    edits: list[Call] = [
        ("PATCH", f"/jobs/{job}", {"json": {"description": f"edit {number}"}})
        for number in range(_BACKFILLS_OF_A_JOB)
        for job in jobs
    ]
    deletions: list[Call] = [("DELETE", f"/jobs/{job}", {}) for job in jobs]
    found = {
        "backfills": await send_all(client, backfills, at_once=4),
        "edits": await send_all(client, edits, at_once=_JOBS),
        "deletions": await send_all(client, deletions, at_once=_JOBS),
    }
    await delete_jobs(client)  # those whose deletion was refused
    return found


async def list_many_jobs(client: httpx2.AsyncClient) -> dict[str, Counter[int]]:
    """Create 10,000 jobs and list them with filters that few or none of them match, 100 at once.
    Each listing differs from the others, so that none comes from the cache."""
    bodies = ({"name": f"listed {n}", "active": False} for n in range(_LISTED_JOBS))
    created = await send_all(client, (("POST", "/jobs", {"json": b}) for b in bodies), at_once=8)
    listed = await send_all(client, _list_listings(), at_once=100)
    deleted = await delete_jobs(client)
    return {"created": created, "listed": listed, "deleted": deleted}


def _list_listings() -> Iterator[Call]:
    for limit in range(1, 101):
        for filters in (
            {"status": "missed"},
            {"q": "listed"},
            {"q": "listed 9", "status": "failed"},
            {"q": "l", "sort": "-created_at", "target_type": "http"},
            {"sort": "-name", "active": True},
        ):
            yield "GET", "/jobs", {"params": {"limit": limit, **filters}}


async def _create_old_job(client: httpx2.AsyncClient) -> str:
    """A paused job whose slots began a day ago."""
    schedule: dict[str, Any] = {
        "type": "interval",
        "interval_seconds": 1,
        "start_at": (datetime.now(UTC) - timedelta(days=1)).isoformat(),
    }
    return await create_job(client, schedules=[schedule], active=False)


def _list_backfills(job_id: str, count: int) -> Iterator[Call]:
    """Backfills of 1,000 slots, one range after the other."""
    start = datetime.now(UTC) - timedelta(hours=23)
    for number in range(count):
        begin = start + number % 80 * timedelta(seconds=_SLOTS)
        body = {
            "start": begin.isoformat(),
            "end": (begin + timedelta(seconds=_SLOTS)).isoformat(),
            "overlap_policy": "allow_all",
        }
        yield "POST", f"/jobs/{job_id}/backfill", {"json": body}
