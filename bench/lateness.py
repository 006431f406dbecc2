"""How late attempts reach an HTTP receiver, at a constant rate of due executions."""

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path

from aiohttp import web

from bench.report import compute_percentile, measure_resident_mib, write_report
from tests.support.service import Service

WARM_UP_SECONDS = 5
PERIOD_SECONDS = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=50, help="due executions per second")
    parser.add_argument("--seconds", type=int, default=30, help="duration of the measurement")


async def run(options: argparse.Namespace) -> None:
    """Create jobs whose slots are spread evenly over one period, and measure how late the receiver
    gets them."""
    parent, child = multiprocessing.Pipe()
    receiver = multiprocessing.Process(target=_receive, args=(child,), daemon=True)
    receiver.start()
    port = parent.recv()
    with tempfile.TemporaryDirectory() as folder:
        async with Service(Path(folder) / "data") as service:
            await _create_jobs(service, options.rate * PERIOD_SECONDS, port)
            await asyncio.sleep(PERIOD_SECONDS + WARM_UP_SECONDS)
            parent.send("begin")
            await asyncio.sleep(options.seconds)
            parent.send("end")
            lateness: list[float] = parent.recv()
            memory = measure_resident_mib(service.pid)
    write_report(
        "lateness",
        {
            "due executions per second": options.rate,
            "measured executions": len(lateness),
            "expected executions": options.rate * options.seconds,
            "p50 ms": compute_percentile(lateness, 0.5),
            "p95 ms": compute_percentile(lateness, 0.95),
            "p99 ms": compute_percentile(lateness, 0.99),
            "max ms": max(lateness),
            "resident MiB": memory,
        },
    )


async def _create_jobs(service: Service, count: int, port: int) -> None:
    now = time.time()
    for n in range(count):
        start = datetime.fromtimestamp(round(now + n * PERIOD_SECONDS / count, 3)).astimezone()
        job = {
            "name": f"job {n}",
            "target": {"type": "http", "url": f"http://127.0.0.1:{port}/"},
            "schedules": [
                {
                    "type": "interval",
                    "interval_seconds": PERIOD_SECONDS,
                    "start_at": start.isoformat(),
                }
            ],
        }
        await service.call("POST", "/jobs", json=job)


def _receive(pipe: Connection) -> None:
    """Run the receiver. It has its own process, so that its load does not block the service."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    lateness: list[float] = []

    async def respond(request: web.BaseRequest) -> web.Response:
        due = datetime.fromisoformat(request.headers["X-Scheduled-For"])
        lateness.append((time.time() - due.timestamp()) * 1000)
        return web.Response(text="ok")

    runner = web.ServerRunner(web.Server(respond, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    pipe.send(runner.addresses[0][1])
    await asyncio.to_thread(pipe.recv)
    lateness.clear()
    await asyncio.to_thread(pipe.recv)
    pipe.send(lateness)
