"""kill -9 during an attempt: no slot is lost or recorded twice, and the execution is retried."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.clock import SystemClock
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
SECOND = timedelta(seconds=1)
WAIT_SECONDS = 60


async def test_a_killed_service_continues_after_its_restart(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", {"LEASE_SECONDS": "5"})
    async with Receiver() as receiver:

        async def respond_except_to_the_third(_: web.Request) -> web.StreamResponse:
            """The third attempt is still running when the service is killed."""
            if len(receiver.requests) == 3:
                await asyncio.Event().wait()
            return web.Response(text="ok")

        receiver.respond_by(respond_except_to_the_third)
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
            await wait_for_slots(2)
            await service.start()
            await wait_until_succeeded(service, interrupted)
            await receiver.wait_for_requests(len(receiver.requests) + 2)
            await service.call("POST", f"/jobs/{job['id']}/deactivate")
            executions = await service.list_executions(job["id"])
            retried = await service.call("GET", f"/executions/{interrupted}")
            assert await service.stop() == 0

    first_slot = datetime.fromisoformat(job["next_run"])
    assert_every_slot_once(executions, first_slot)
    assert [attempt["outcome"] for attempt in retried["attempts"]] == ["abandoned", "succeeded"]
    attempts = [r for r in receiver.requests if r.headers["Idempotency-Key"] == interrupted]
    assert [request.headers["X-Attempt"] for request in attempts] == ["1", "2"]
    assert len({request.headers["X-Scheduled-For"] for request in attempts}) == 1


async def wait_for_slots(count: int) -> None:
    """Wait until `count` slots are due. The job has one slot per second."""
    clock = SystemClock()
    last = clock.now() + count * SECOND
    await eventually(lambda: clock.now() >= last)


async def wait_until_succeeded(service: Service, execution_id: str) -> None:
    async def has_succeeded() -> bool:
        execution = await service.call("GET", f"/executions/{execution_id}")
        return bool(execution["status"] == "succeeded")

    await eventually(has_succeeded, WAIT_SECONDS, every=0.2)


def assert_every_slot_once(executions: list[dict[str, Any]], first_slot: datetime) -> None:
    """Assert that each second from the first slot to the last recorded one has one record, or is
    counted in one `missed` record."""
    recorded: Counter[datetime] = Counter()
    for execution in executions:
        slot = datetime.fromisoformat(execution["scheduled_for"])
        recorded.update(slot + n * SECOND for n in range(execution.get("missed_count") or 1))
    span = (max(recorded) - first_slot) // SECOND + 1
    assert recorded == Counter(first_slot + n * SECOND for n in range(span))
