"""What stored jobs that wait cost: memory of the process, and the keys its poll examines."""

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

from bench.report import report, resident_megabytes
from tests.support.service import Service

SETTLE_SECONDS = 10
CHUNK = 10_000


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=100_000, help="stored jobs")


async def run(options: argparse.Namespace) -> None:
    """One job is created through the API and multiplied in the database."""
    with tempfile.TemporaryDirectory() as folder:
        async with Service(Path(folder) / "data") as service:
            await asyncio.sleep(SETTLE_SECONDS)
            empty = resident_megabytes(service.pid)
            template = await service.call(
                "POST", "/jobs", json={"name": "waits", "cron_expression": "0 0 1 1 *"}
            )
            port = json.loads((Path(folder) / "data" / "mongodb.json").read_text())["port"]
            keys = await asyncio.to_thread(_multiply, port, template["id"], options.jobs)
            await asyncio.sleep(SETTLE_SECONDS)
            await service.call("GET", "/jobs", params={"limit": 200})
            full = resident_megabytes(service.pid)
    report(
        "growth",
        {
            "stored jobs": options.jobs,
            "resident MB with none": empty,
            "resident MB with all": full,
            "keys examined by a poll that finds nothing": keys,
        },
    )


def _multiply(port: int, job_id: str, count: int) -> int:
    """Store copies with cursors spread over a year; returns the keys an empty poll examines."""
    client: MongoClient[dict[str, Any]]
    with MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
        jobs: Collection[dict[str, Any]] = client["carillon"]["jobs"]
        template = jobs.find_one({"_id": job_id})
        assert template is not None
        later = datetime.now(UTC) + timedelta(hours=1)
        for start in range(0, count, CHUNK):
            jobs.insert_many(_copy(template, later, n) for n in range(start, start + CHUNK))
        due = {"next_run": {"$type": "date", "$lte": datetime.now(UTC)}}
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
