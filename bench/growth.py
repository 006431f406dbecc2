"""What many stored jobs cost: memory of the process, and index keys that a poll examines."""

import argparse
import asyncio
import json
import secrets
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection

from app.repositories.jobs import JobRepository
from bench.report import report, resident_megabytes
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
            empty = resident_megabytes(service.pid)
            template = await service.call(
                "POST", "/jobs", json={"name": "yearly", "cron_expression": "0 0 1 1 *"}
            )
            port = json.loads((Path(folder) / "data" / "mongodb.json").read_text())["port"]
            keys = await asyncio.to_thread(_store_copies, port, template["id"], options.jobs)
            await asyncio.sleep(QUIET_SECONDS)
            await service.call("GET", "/jobs", params={"limit": 200})
            full = resident_megabytes(service.pid)
    report(
        "growth",
        {
            "stored jobs": options.jobs,
            "resident MB without jobs": empty,
            "resident MB with these jobs": full,
            "keys examined by a poll if nothing is due": keys,
        },
    )


def _store_copies(port: int, job_id: str, count: int) -> int:
    """Store `count` copies of the job, with their `next_run` distributed over a year.

    Returns how many index keys the scheduler's poll examines if nothing is due.
    """
    client: MongoClient[dict[str, Any]]
    with MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
        jobs: Collection[dict[str, Any]] = client["carillon"]["jobs"]
        template = jobs.find_one({"_id": job_id})
        assert template is not None
        later = datetime.now(UTC) + timedelta(hours=1)
        for start in range(0, count, CHUNK):
            jobs.insert_many(_copy(template, later, n) for n in range(start, start + CHUNK))
        due = JobRepository.build_due_query(datetime.now(UTC))
        explained = client["carillon"].command(
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
