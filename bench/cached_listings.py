"""How fast jobs are listed, and how often from the cache, while 50 executions a second run."""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import redis
from pymongo import MongoClient

from app.embedded.mongod import start_mongod
from app.embedded.redis_server import start_redis
from bench.report import compute_percentile, write_report
from tests.support.service import PASSWORD, Service, add_user, make_environment

PAGE = 50
PERIOD_SECONDS = 10
WARM_UP_SECONDS = 5
RESTING, RUNNING = "resting", "running"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=50, help="due executions per second")
    parser.add_argument("--seconds", type=int, default=15, help="duration of each measurement")


async def run(options: argparse.Namespace) -> None:
    """List the jobs of an owner whose jobs rest, before and while those of another owner run, and
    then the jobs of that owner."""
    figures: dict[str, Any] = {"due executions per second": options.rate}
    with tempfile.TemporaryDirectory() as folder:
        async with Service(Path(folder) / "data") as service:
            resting, running = [await _sign_in(service, name) for name in (RESTING, RUNNING)]
            with _open_stores(service.data_dir) as stores:
                for owner in (resting, running):
                    await _create_jobs(owner, PAGE, {"cron_expression": "0 0 1 1 *"})
                figures |= await _measure("at rest", resting, stores, options.seconds)
                await _create_running_jobs(running, options.rate * PERIOD_SECONDS)
                await asyncio.sleep(PERIOD_SECONDS + WARM_UP_SECONDS)
                figures |= await _measure("another owner", resting, stores, options.seconds)
                figures |= await _measure("same owner", running, stores, options.seconds)
            for owner in (resting, running):
                await owner.aclose()
    write_report("cached-listings", figures)


@dataclass(frozen=True)
class _Stores:
    """Clients of the service's embedded servers."""

    redis: "redis.Redis"
    mongo: "MongoClient[dict[str, Any]]"

    def count_calls(self, command: str) -> int:
        """Return how often Redis has executed a command."""
        calls: Any = self.redis.info("commandstats")
        return int(calls.get(f"cmdstat_{command}", {"calls": 0})["calls"])

    def count_finished(self, since: datetime) -> int:
        executions = self.mongo["carillon"]["executions"]
        return executions.count_documents({"finished_at": {"$gte": since}})


@contextmanager
def _open_stores(data: Path) -> Iterator[_Stores]:
    client: MongoClient[dict[str, Any]]
    with (
        start_mongod(data) as mongod,
        start_redis(data) as redis_server,
        MongoClient(mongod.uri) as client,
        redis.Redis.from_url(redis_server.uri) as cache,
    ):
        yield _Stores(cache, client)


async def _sign_in(service: Service, name: str) -> httpx2.AsyncClient:
    await asyncio.to_thread(add_user, name, make_environment(service.port, service.data_dir))
    client = httpx2.AsyncClient(base_url=service.url, timeout=30)
    response = await client.post("/token", data={"username": name, "password": PASSWORD})
    assert response.status_code == 200, response.text
    client.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
    return client


async def _create_jobs(owner: httpx2.AsyncClient, count: int, schedule: dict[str, Any]) -> None:
    for n in range(count):
        response = await owner.post("/jobs", json={"name": f"job {n}", **schedule})
        assert response.status_code == 201, response.text


async def _create_running_jobs(owner: httpx2.AsyncClient, count: int) -> None:
    """Create jobs whose slots are spread evenly over one period."""
    now = datetime.now(UTC)
    for n in range(count):
        start = now + timedelta(seconds=n * PERIOD_SECONDS / count)
        schedule = {
            "type": "interval",
            "interval_seconds": PERIOD_SECONDS,
            "start_at": start.isoformat(timespec="milliseconds"),
        }
        await _create_jobs(owner, 1, {"schedules": [schedule]})


async def _measure(
    name: str, owner: httpx2.AsyncClient, stores: _Stores, seconds: int
) -> dict[str, Any]:
    """List the first page again and again, one request at a time.

    Each lookup in the cache is one MGET, and each response that was not found is one SET. The
    first lookup after a drop adds one SET, so the share of hits is at least what is reported.
    """
    lookups, misses = stores.count_calls("mget"), stores.count_calls("set")
    began_at, started, times = datetime.now(UTC), time.perf_counter(), list[float]()
    while time.perf_counter() < started + seconds:
        sent = time.perf_counter()
        response = await owner.get("/jobs", params={"limit": PAGE})
        assert len(response.json()["items"]) == PAGE, response.text
        times.append(time.perf_counter() - sent)
    elapsed = time.perf_counter() - started
    lookups, misses = stores.count_calls("mget") - lookups, stores.count_calls("set") - misses
    p50, p95 = (compute_percentile(times, share) * 1000 for share in (0.5, 0.95))
    return {
        f"{name}: executions per second": stores.count_finished(began_at) / elapsed,
        f"{name}: listings per second": len(times) / elapsed,
        f"{name}: p50/p95 ms": f"{p50:.1f} / {p95:.1f}",
        f"{name}: hits in the cache, at least %": 100 * (1 - misses / lookups),
    }
