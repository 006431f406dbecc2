"""The embedded servers die while the service runs: it continues, and a stop still ends in time."""

import asyncio
import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
RECOVERY_SECONDS = 60


def list_servers(data_dir: Path) -> list[int]:
    """The process ids of the embedded servers."""
    return [json.loads(record.read_text())["pid"] for record in data_dir.glob("*.json")]


def kill_servers(data_dir: Path) -> None:
    for pid in list_servers(data_dir):
        os.kill(pid, signal.SIGKILL)


async def test_a_service_whose_servers_die_continues_with_the_running_attempt(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "data"
    finished = asyncio.Event()

    async def respond_when_finished(_: web.Request) -> web.StreamResponse:
        await finished.wait()
        return web.Response(text="ok")

    async with Receiver() as receiver, Service(data_dir) as service:
        receiver.respond_by(respond_when_finished)
        body = {"name": "long", "target": {"type": "http", "url": f"{receiver.url}/hook"}}
        job = await service.call("POST", "/jobs", json=body)
        execution = await service.call("POST", f"/jobs/{job['id']}/execute")
        await receiver.wait_for_requests(1)
        kill_servers(data_dir)
        await eventually(service._is_ready, RECOVERY_SECONDS, every=0.1)
        finished.set()

        async def is_final() -> bool:
            found = await service.call("GET", f"/executions/{execution['id']}")
            return bool(found["status"] == "succeeded")

        await eventually(is_final, RECOVERY_SECONDS, every=0.1)
        assert len(receiver.requests) == 1
        again = await service.call("POST", f"/jobs/{job['id']}/execute")
        await receiver.wait_for_requests(2)
        assert again["id"] != execution["id"]
        kill_servers(data_dir)
        assert await service.stop() == 0
    assert not any(map(psutil.pid_exists, list_servers(data_dir)))
