"""What the most expensive request bodies cost: blocked event loop, memory and size of response."""

import argparse
import asyncio
import ctypes
import gc
import os
import tempfile
import time
from asyncio.events import Handle
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from app.schemas.json_size import MAX_VALUES
from app.settings import Settings
from bench.report import measure_resident_mib, write_report
from tests.support.api import Api, open_api
from tests.support.servers import running_mongod, running_redis
from tests.support.worst_bodies import WorstBody, list_bodies, list_places

_SELF = os.getpid()
SHOWN = 10
DATABASE = "worst_bodies"


def add_options(parser: argparse.ArgumentParser) -> None:
    limit = Settings.model_fields["max_body_bytes"].default
    parser.add_argument("--bytes", type=int, default=limit, help="size of a body in bytes")
    parser.add_argument("--values", type=int, default=MAX_VALUES, help="JSON values of a body")
    parser.add_argument("--only", default="", help="only the places whose name has this text")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request costs this process."""

    body: WorstBody
    status: int
    response_kib: float
    blocked_ms: float
    """The CPU time of the longest step of the event loop. Other processes do not affect it."""
    total_ms: float
    """The CPU time of all steps and threads."""
    memory_mib: float
    """How much the resident memory grew at its peak."""


async def run(options: argparse.Namespace) -> None:
    """Send each body to the application, in this process and without a network."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_mongod(Path(folder)) as mongo,
        running_redis(Path(folder)) as redis,
    ):
        async with (
            open_api(mongo, DATABASE, redis, max_body_bytes=options.bytes) as api,
            api.open_client("alice") as client,
        ):
            costs = [cost async for cost in _measure(api, client, options)]
    figures: dict[str, object] = {"bodies": len(costs)}
    for label in ("blocked_ms", "total_ms", "memory_mib", "response_kib"):
        costs.sort(key=lambda cost: -getattr(cost, label))
        figures[f"worst {label}"] = getattr(costs[0], label)
        for cost in costs[:SHOWN]:
            name = f"{label}: {cost.body.name} ({cost.status})"
            figures[name] = getattr(cost, label)
    write_report("worst-bodies", figures)


async def _measure(
    api: Api, client: httpx2.AsyncClient, options: argparse.Namespace
) -> AsyncIterator[Cost]:
    job = (await client.post("/jobs", json={"name": "a job", "interval": 3600})).json()
    execution = (await client.post(f"/jobs/{job['id']}/execute")).json()
    ids = {
        "job_id": job["id"],
        "schedule_id": job["schedules"][0]["id"],
        "execution_id": execution["id"],
    }
    gc.freeze()  # as the service does after its start
    for place in list_places(api.app.openapi()):
        if options.only not in place.name:
            continue
        for body in list_bodies(place, max_bytes=options.bytes, max_values=options.values):
            yield await _send(client, place.path.format(**ids), body)


async def _send(client: httpx2.AsyncClient, path: str, body: WorstBody) -> Cost:
    headers = {"Content-Type": "application/json"}
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = measure_resident_mib(_SELF)
    _reset_peak()
    cpu = time.process_time()
    with _longest_step() as steps:
        # A task of its own: the step that ends it is complete when this one continues.
        response = await asyncio.create_task(
            client.request(body.place.method, path, content=body.content, headers=headers)
        )
    total = time.process_time() - cpu
    peak = measure_resident_mib(_SELF, "VmHWM")
    return Cost(
        body,
        response.status_code,
        len(response.content) / 1024,
        max(steps) * 1000,
        total * 1000,
        peak - before,
    )


def _reset_peak() -> None:
    """Let the peak of the resident memory start at its present size."""
    Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def _longest_step() -> Iterator[list[float]]:
    """Collect the CPU time of each step of the event loop."""
    steps = [0.0]
    run_step: Callable[[Handle], None] = vars(Handle)["_run"]

    def run_timed(handle: Handle) -> None:
        started = time.thread_time()
        run_step(handle)
        steps.append(time.thread_time() - started)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handle, "_run", run_timed)
        yield steps
