"""kill -9 in the middle of a run: no slot is lost, none is doubled, and the run is taken over."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.receiver import Receiver
from tests.support.service import Service

SECOND = timedelta(seconds=1)
WAIT_SECONDS = 60


async def test_a_killed_service_goes_on_where_it_was(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", {"LEASE_SECONDS": "5"})
    async with Receiver() as receiver:
        receiver.respond_by(slowly)
        async with service:
            job = await service.call(
                "POST",
                "/jobs",
                json={
                    "name": "every second",
                    "schedule_type": "interval",
                    "schedule_config": {"seconds": 1},
                    "target": {"type": "http", "url": f"{receiver.url}/hook"},
                    "retry": {"max_attempts": 3, "delay_seconds": 0.1},
                },
            )
            await receiver.wait_for_requests(3)
            interrupted = receiver.requests[2].headers["Idempotency-Key"]
            await service.kill()
            await asyncio.sleep(2)
            await service.start()
            await until_succeeded(service, interrupted)
            await receiver.wait_for_requests(len(receiver.requests) + 2)
            await service.call("POST", f"/jobs/{job['id']}/deactivate")
            executions = await service.executions(job["id"])
            taken_over = await service.call("GET", f"/executions/{interrupted}")
            assert await service.stop() == 0

    first_slot = datetime.fromisoformat(job["next_run"])
    assert_every_slot_once(executions, first_slot)
    assert [attempt["outcome"] for attempt in taken_over["attempts"]] == ["abandoned", "succeeded"]
    tries = [r for r in receiver.requests if r.headers["Idempotency-Key"] == interrupted]
    assert [request.headers["X-Attempt"] for request in tries] == ["1", "2"]
    assert len({request.headers["X-Scheduled-For"] for request in tries}) == 1


async def slowly(_: web.Request) -> web.StreamResponse:
    """Leaves time to be killed while a run is under way."""
    await asyncio.sleep(0.3)
    return web.Response(text="ok")


async def until_succeeded(service: Service, execution_id: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            execution = await service.call("GET", f"/executions/{execution_id}")
            if execution["status"] == "succeeded":
                return
            await asyncio.sleep(0.2)


def assert_every_slot_once(executions: list[dict[str, Any]], first_slot: datetime) -> None:
    """Each second from the first slot to the last recorded one has one record, or is counted."""
    recorded: Counter[datetime] = Counter()
    for execution in executions:
        slot = datetime.fromisoformat(execution["scheduled_for"])
        recorded.update(slot + n * SECOND for n in range(execution.get("missed_count") or 1))
    span = (max(recorded) - first_slot) // SECOND + 1
    assert recorded == Counter(first_slot + n * SECOND for n in range(span))
