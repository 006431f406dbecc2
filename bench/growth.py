"""What many stored jobs cost: memory of the process, and index keys that a poll examines."""

import argparse
import asyncio
import secrets
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from app.embedded.mongod import start_mongod
from app.repositories.due_jobs import ALL
from bench.report import measure_resident_mib, write_report
from tests.support.service import Service

QUIET_SECONDS = 10  # until the memory of the process no longer changes
CHUNK = 10_000


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=100_000, help="number of stored jobs")


async def run(options: argparse.Namespace) -> None:
    """Create one job through the API, and copy it in the database."""
    with tempfile.TemporaryDirectory() as folder:
        async with Service(Path(folder) / "data") as service:
            await asyncio.sleep(QUIET_SECONDS)
            empty = measure_resident_mib(service.pid)
            template = await service.call(
                "POST", "/jobs", json={"name": "yearly", "cron_expression": "0 0 1 1 *"}
            )
            with start_mongod(service.data_dir) as server:
                keys = await asyncio.to_thread(
                    _copy_and_count, server.uri, template["id"], options.jobs
                )
            await asyncio.sleep(QUIET_SECONDS)
            await service.call("GET", "/jobs", params={"limit": 200})
            full = measure_resident_mib(service.pid)
    write_report(
        "growth",
        {
            "stored jobs": options.jobs,
            "resident MiB without jobs": empty,
            "resident MiB with these jobs": full,
            "keys examined by a poll if nothing is due": keys,
        },
    )


def _copy_and_count(uri: str, job_id: str, count: int) -> int:
    client: MongoClient[dict[str, Any]]
    with MongoClient(uri) as client:
        _store_copies(client["carillon"]["jobs"], job_id, count)
        return _count_examined_keys(client["carillon"])


def _store_copies(jobs: Collection[dict[str, Any]], job_id: str, count: int) -> None:
    """Store `count` copies of the job, with their `next_run` distributed over a year."""
    template = jobs.find_one({"_id": job_id})
    assert template is not None
    later = datetime.now(UTC) + timedelta(hours=1)
    for chunk in split_into_chunks(count):
        jobs.insert_many(_copy(template, later, n) for n in chunk)


def split_into_chunks(count: int) -> list[range]:
    """Return the numbers below `count` in ranges of at most CHUNK numbers."""
    return [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _count_examined_keys(database: Database[dict[str, Any]]) -> int:
    """Return how many index keys the scheduler's poll examines if nothing is due."""
    due = ALL.build_due_query(datetime.now(UTC))
    explained = database.command(
        {
            "explain": {"find": "jobs", "filter": due, "sort": {"next_run": 1}, "limit": 500},
            "verbosity": "executionStats",
        }
    )
    examined: int = explained["executionStats"]["totalKeysExamined"]
    return examined


def _copy(template: dict[str, Any], later: datetime, n: int) -> dict[str, Any]:
    next_run = later + timedelta(seconds=n * 300 % 31_536_000)
    schedule = template["schedules"][0] | {"id": secrets.token_hex(16), "next_run": next_run}
    return template | {
        "_id": secrets.token_hex(16),
        "next_run": next_run,
        "schedules": [schedule],
    }
