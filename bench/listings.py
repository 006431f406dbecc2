"""How fast listings of executions answer over HTTP with a million of them stored."""

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

from app.models.ids import uuid7
from bench.report import percentile, report, resident_megabytes
from tests.support.service import PASSWORD, USERNAME, Service

CHUNK = 5_000
PAGE = 50
DEEP_PAGES = 40
STATUSES = ["succeeded"] * 88 + ["failed"] * 5 + ["skipped"] * 3 + ["timed_out"] * 2
STATUSES += ["cancelled", "missed"]
BODY = json.dumps({"ok": True, "rows": list(range(40))})

Params = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--executions", type=int, default=1_000_000, help="stored executions")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs that they belong to")
    parser.add_argument("--owners", type=int, default=10, help="users that own the jobs")
    parser.add_argument("--requests", type=int, default=150, help="requests of each kind")


async def run(options: argparse.Namespace) -> None:
    """Executions are written to the database directly, then read one request at a time."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        async with Service(data) as service:
            port = json.loads((data / "mongodb.json").read_text())["port"]
            stock = await asyncio.to_thread(_store, port, options)
            users = [await _sign_in(service, name) for name in ("owner-0", USERNAME)]
            figures = await _measure(stock, *users, requests=options.requests)
            memory = resident_megabytes(service.pid)
            for user in users:
                await user.aclose()
    report("listings", stock.facts | figures | {"resident MB": memory})


class _Stock:
    """What was stored."""

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

    def slot(self, place: int) -> datetime:
        """Each job once in a quarter of an hour, all of them in the first minute of it."""
        rounds, job = divmod(place, len(self.jobs))
        return self.now - timedelta(minutes=15 * (rounds + 1), seconds=job % 60)

    def documents(self) -> Iterator[dict[str, Any]]:
        for place in range(self.count):
            yield self._document(place)

    def _document(self, place: int) -> dict[str, Any]:
        job, slot = place % len(self.jobs), self.slot(place)
        status = self._random.choice(STATUSES)
        began, ended = slot + timedelta(milliseconds=12), slot + timedelta(milliseconds=180)
        document: dict[str, Any] = {
            "_id": uuid7(int(slot.timestamp() * 1000), secrets.token_bytes(10)),
            "job_id": self.jobs[job],
            "owner_id": self.owner_of(job),
            "schedule_id": f"{self.jobs[job]}-s",
            "kind": "manual" if place % 200 == 0 else "scheduled",
            "scheduled_for": slot,
            "run_at": slot,
            "status": status,
            "lease_token": 1,
            "held": False,
            "attempts": [],
            "created_at": slot,
            "finished_at": ended,
        }
        if status in {"skipped", "missed"}:
            return document | {"reason": "overlap" if status == "skipped" else "catch_up"}
        attempt = {
            "number": 1,
            "job_revision": 1,
            "started_at": began,
            "finished_at": ended,
            "outcome": status,
            "error": None if status == "succeeded" else "the target responded with status 500",
            "response": {
                "status": 200 if status == "succeeded" else 500,
                "headers": {"content-type": "application/json", "server": "example"},
                "body": BODY,
                "truncated": False,
            },
        }
        return document | {"attempts": [attempt]}


def _store(port: int, options: argparse.Namespace) -> _Stock:
    """Copy the first admin as each owner, and store the executions with all indexes in place."""
    stock = _Stock(options)
    client: MongoClient[dict[str, Any]]
    with MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
        database: Database[dict[str, Any]] = client["carillon"]
        admin = database["users"].find_one({"username": USERNAME})
        assert admin is not None
        for number, owner_id in enumerate(stock.owners):
            owner = {"_id": owner_id, "username": f"owner-{number}", "role": "editor"}
            database["users"].insert_one(admin | owner)
        begun = time.perf_counter()
        chunk: list[dict[str, Any]] = []
        for document in stock.documents():
            chunk.append(document)
            if len(chunk) == CHUNK:
                database["executions"].insert_many(chunk, ordered=False)
                chunk = []
        if chunk:
            database["executions"].insert_many(chunk, ordered=False)
        stock.facts["seconds to store them"] = time.perf_counter() - begun
        stats = database.command("collStats", "executions", scale=1024 * 1024)
        stock.facts["documents MB"] = stats["size"]
        stock.facts["indexes MB"] = stats["totalIndexSize"]
    return stock


async def _sign_in(service: Service, username: str) -> httpx2.AsyncClient:
    client = httpx2.AsyncClient(base_url=service.url, timeout=30)
    answer = await client.post("/token", data={"username": username, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return client


async def _measure(
    stock: _Stock, owner: httpx2.AsyncClient, admin: httpx2.AsyncClient, *, requests: int
) -> dict[str, Any]:
    own = stock.jobs_of_first_owner()
    day = {
        "from": (stock.now - timedelta(hours=12)).isoformat(),
        "to": (stock.now - timedelta(hours=6)).isoformat(),
    }

    def of_job(**params: Any) -> Callable[[int], tuple[str, Params]]:
        return lambda i: (f"/jobs/{own[i * 37 % len(own)]}/executions", params)

    def across(**params: Any) -> Callable[[int], tuple[str, Params]]:
        return lambda i: ("/executions", params)

    kinds: list[tuple[str, httpx2.AsyncClient, Callable[[int], tuple[str, Params]]]] = [
        ("job", owner, of_job()),
        ("job, one status", owner, of_job(status="failed")),
        ("job, three statuses", owner, of_job(status=["failed", "timed_out", "cancelled"])),
        ("job, from/to", owner, of_job(**day)),
        ("own", owner, across()),
        ("own, one status", owner, across(status="failed")),
        ("own, every status", owner, across(status=sorted({*STATUSES}))),
        ("own, from/to", owner, across(**day)),
        (
            "own, from/to, three statuses",
            owner,
            across(**day, status=["failed", "skipped", "missed"]),
        ),
        ("own, kind manual", owner, across(kind="manual")),
        ("own, 200 a page", owner, across(limit=200)),
        ("admin", admin, across()),
        ("admin, one status", admin, across(status="failed")),
        (
            "admin, from/to, three statuses",
            admin,
            across(**day, status=["failed", "skipped", "missed"]),
        ),
    ]
    figures: dict[str, Any] = {}
    for name, client, ask in kinds:
        times = [await _timed(_get(client, *ask(i))) for i in range(requests)]
        figures |= _percentiles(name, [seconds for seconds, _ in times])
    for name, client, params in (
        ("own, deep pages", owner, {}),
        ("own, deep pages, two statuses", owner, {"status": ["succeeded", "failed"]}),
        ("admin, deep pages", admin, {}),
    ):
        figures |= _percentiles(name, await _walk(client, params))
    return figures


async def _walk(client: httpx2.AsyncClient, params: Params) -> list[float]:
    """Go on by cursor, page after page; then from the middle of what is stored."""
    times: list[float] = []
    for until in (None, datetime.now(UTC) - timedelta(hours=13)):
        bounds = {} if until is None else {"to": until.isoformat()}
        cursor: str | None = None
        for _ in range(DEEP_PAGES):
            query = {**params, **bounds} | ({"cursor": cursor} if cursor else {})
            seconds, page = await _timed(_get(client, "/executions", query | {"limit": 200}))
            times.append(seconds)
            cursor = page["next_cursor"]
            if cursor is None:
                break
    return times


async def _get(client: httpx2.AsyncClient, path: str, params: Params) -> dict[str, Any]:
    answer = await client.get(path, params={"limit": PAGE} | params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def _timed(asking: Awaitable[dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    begun = time.perf_counter()
    page = await asking
    return time.perf_counter() - begun, page


def _percentiles(name: str, seconds: list[float]) -> dict[str, str]:
    p50, p95, p99 = (percentile(seconds, share) * 1000 for share in (0.5, 0.95, 0.99))
    return {f"{name}: p50/p95/p99 ms": f"{p50:.1f} / {p95:.1f} / {p99:.1f}"}
