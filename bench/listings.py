"""How fast the service lists executions over HTTP when a million of them are stored."""

import argparse
import asyncio
import json
import random
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from pymongo import MongoClient
from pymongo.database import Database

from app.embedded.mongod import start_mongod
from app.models.execution import Execution
from app.models.ids import uuid7
from app.repositories.documents import SCHEMAS
from bench.report import compute_percentile, measure_resident_mib, write_report
from tests.support.service import PASSWORD, USERNAME, Service

CHUNK = 5_000
PAGE = 50
DEEP_PAGES = 40
STATUSES = ["succeeded"] * 88 + ["failed"] * 5 + ["skipped"] * 3 + ["timed_out"] * 2
STATUSES += ["cancelled", "missed"]
BODY = json.dumps({"ok": True, "rows": list(range(40))})

Params = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--executions", type=int, default=1_000_000, help="number of stored executions"
    )
    parser.add_argument(
        "--jobs", type=int, default=10_000, help="number of jobs that have these executions"
    )
    parser.add_argument("--owners", type=int, default=10, help="number of users that own the jobs")
    parser.add_argument("--requests", type=int, default=150, help="number of requests of each kind")


async def run(options: argparse.Namespace) -> None:
    """Write the executions to the database directly, then list them by one request at a time."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        async with Service(data) as service:
            with start_mongod(data) as server:
                stored = await asyncio.to_thread(_store, server.uri, options)
            users = [await _sign_in(service, name) for name in ("owner-0", USERNAME)]
            figures = await _measure(stored, *users, requests=options.requests)
            memory = measure_resident_mib(service.pid)
            for user in users:
                await user.aclose()
    write_report("listings", stored.facts | figures | {"resident MiB": memory})


class _GeneratedExecutions:
    """Generates executions to store, with their jobs and owners."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._random = random.Random(1)
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.owners = [secrets.token_hex(16) for _ in range(options.owners)]
        self.jobs = [secrets.token_hex(16) for _ in range(options.jobs)]
        self.count: int = options.executions
        self.facts: dict[str, Any] = {
            "stored executions": options.executions,
            "jobs": options.jobs,
            "owners": options.owners,
        }

    def owner_of(self, job: int) -> str:
        return self.owners[job % len(self.owners)]

    def jobs_of_first_owner(self) -> list[str]:
        return self.jobs[:: len(self.owners)]

    def slot(self, number: int) -> datetime:
        """The slot of an execution. Each job has a slot every 15 minutes. The slots of all jobs are
        in the same minute."""
        rounds, job = divmod(number, len(self.jobs))
        return self.now - timedelta(minutes=15 * (rounds + 1), seconds=job % 60)

    def documents(self) -> Iterator[dict[str, Any]]:
        for number in range(self.count):
            yield self._document(number)

    def _document(self, number: int) -> dict[str, Any]:
        job, slot = number % len(self.jobs), self.slot(number)
        status = self._random.choice(STATUSES)
        started, finished = slot + timedelta(milliseconds=12), slot + timedelta(milliseconds=180)
        document: dict[str, Any] = {
            "_id": uuid7(int(slot.timestamp() * 1000), secrets.token_bytes(10)),
            "job_id": self.jobs[job],
            "owner_id": self.owner_of(job),
            "schedule_id": f"{self.jobs[job]}-s",
            "kind": "manual" if number % 200 == 0 else "scheduled",
            "scheduled_for": slot,
            "run_at": slot,
            "status": status,
            "lease_token": 1,
            "waiting": False,
            "attempts": [],
            "created_at": slot,
            "schema": SCHEMAS[Execution],
            "finished_at": finished,
        }
        if status in {"skipped", "missed"}:
            return document | {"reason": "overlap" if status == "skipped" else "catch_up"}
        attempt = {
            "number": 1,
            "job_revision": 1,
            "started_at": started,
            "finished_at": finished,
            "outcome": status,
            "error": None if status == "succeeded" else "the target responded with status 500",
            "response": {
                "status": 200 if status == "succeeded" else 500,
                "headers": [{"k": "content-type", "v": "application/json"}],
                "body": BODY,
                "truncated": False,
            },
        }
        return document | {"attempts": [attempt]}


def _store(uri: str, options: argparse.Namespace) -> _GeneratedExecutions:
    """Copy the first admin for each owner, and store the executions. The service has created the
    indexes already."""
    stored = _GeneratedExecutions(options)
    client: MongoClient[dict[str, Any]]
    with MongoClient(uri) as client:
        database: Database[dict[str, Any]] = client["carillon"]
        admin = database["users"].find_one({"username": USERNAME})
        assert admin is not None
        for number, owner_id in enumerate(stored.owners):
            owner = {"_id": owner_id, "username": f"owner-{number}", "role": "editor"}
            database["users"].insert_one(admin | owner)
        started = time.perf_counter()
        chunk: list[dict[str, Any]] = []
        for document in stored.documents():
            chunk.append(document)
            if len(chunk) == CHUNK:
                database["executions"].insert_many(chunk, ordered=False)
                chunk = []
        if chunk:
            database["executions"].insert_many(chunk, ordered=False)
        stored.facts["seconds to store them"] = time.perf_counter() - started
        stats = database.command("collStats", "executions", scale=1024 * 1024)
        stored.facts["documents MiB"] = stats["size"]
        stored.facts["indexes MiB"] = stats["totalIndexSize"]
    return stored


async def _sign_in(service: Service, username: str) -> httpx2.AsyncClient:
    client = httpx2.AsyncClient(base_url=service.url, timeout=30)
    response = await client.post("/token", data={"username": username, "password": PASSWORD})
    assert response.status_code == 200, response.text
    client.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
    return client


def _list_kinds(
    stored: _GeneratedExecutions, owner: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> list[tuple[str, httpx2.AsyncClient, Callable[[int], tuple[str, Params]]]]:
    """The kinds of listings: name, client, and the path and parameters of the i-th request."""
    own = stored.jobs_of_first_owner()
    slot_range = {
        "from": (stored.now - timedelta(hours=12)).isoformat(),
        "to": (stored.now - timedelta(hours=6)).isoformat(),
    }

    def of_job(**params: Any) -> Callable[[int], tuple[str, Params]]:
        return lambda i: (f"/jobs/{own[i * 37 % len(own)]}/executions", params)

    def across(**params: Any) -> Callable[[int], tuple[str, Params]]:
        return lambda i: ("/executions", params)

    return [
        ("job", owner, of_job()),
        ("job, one status", owner, of_job(status="failed")),
        ("job, three statuses", owner, of_job(status=["failed", "timed_out", "cancelled"])),
        ("job, from/to", owner, of_job(**slot_range)),
        ("own", owner, across()),
        ("own, one status", owner, across(status="failed")),
        ("own, every status", owner, across(status=sorted({*STATUSES}))),
        ("own, from/to", owner, across(**slot_range)),
        (
            "own, from/to, three statuses",
            owner,
            across(**slot_range, status=["failed", "skipped", "missed"]),
        ),
        ("own, kind manual", owner, across(kind="manual")),
        ("own, 200 per page", owner, across(limit=200)),
        ("admin", admin, across()),
        ("admin, one status", admin, across(status="failed")),
        (
            "admin, from/to, three statuses",
            admin,
            across(**slot_range, status=["failed", "skipped", "missed"]),
        ),
    ]


async def _measure(
    stored: _GeneratedExecutions,
    owner: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    *,
    requests: int,
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, client, request_of in _list_kinds(stored, owner, admin):
        times = [await _time(_get(client, *request_of(i))) for i in range(requests)]
        figures |= _format_percentiles(name, [seconds for seconds, _ in times])
    for name, client, params in (
        ("own, deep pages", owner, {}),
        ("own, deep pages, two statuses", owner, {"status": ["succeeded", "failed"]}),
        ("admin, deep pages", admin, {}),
    ):
        figures |= _format_percentiles(name, await _time_pages(client, params))
    return figures


async def _time_pages(client: httpx2.AsyncClient, params: Params) -> list[float]:
    """Read page after page by cursor, first from the newest slot, then from 13 hours ago."""
    times: list[float] = []
    for until in (None, datetime.now(UTC) - timedelta(hours=13)):
        bounds = {} if until is None else {"to": until.isoformat()}
        cursor: str | None = None
        for _ in range(DEEP_PAGES):
            query = {**params, **bounds} | ({"cursor": cursor} if cursor else {})
            seconds, page = await _time(_get(client, "/executions", query | {"limit": 200}))
            times.append(seconds)
            cursor = page["next_cursor"]
            if cursor is None:
                break
    return times


async def _get(client: httpx2.AsyncClient, path: str, params: Params) -> dict[str, Any]:
    response = await client.get(path, params={"limit": PAGE} | params)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


async def _time(request: Awaitable[dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    started = time.perf_counter()
    page = await request
    return time.perf_counter() - started, page


def _format_percentiles(name: str, seconds: list[float]) -> dict[str, str]:
    p50, p95, p99 = (compute_percentile(seconds, share) * 1000 for share in (0.5, 0.95, 0.99))
    return {f"{name}: p50/p95/p99 ms": f"{p50:.1f} / {p95:.1f} / {p99:.1f}"}
