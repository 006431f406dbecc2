"""The service that is attacked, its attackers, and the other user who must not notice them."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from tests.chaos.servers import run_receiver
from tests.support.service import PASSWORD, ROOT, Service, add_user, make_environment

ATTACKERS = 5
_CALL_SECONDS = 60
_PAGE = 200


@dataclass(frozen=True, kw_only=True)
class Arena:
    """What an attack may use."""

    url: str
    attackers: Sequence[httpx2.AsyncClient]
    """Each is signed in as a user of its own."""
    tokens: Sequence[str]
    """The tokens of the attackers."""
    receiver_url: str
    """A receiver whose path says how it misbehaves."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """What the other user and the probe noticed of an attack."""

    slots: int
    """How many slots were due."""
    lost: int
    """How many of them have no execution, or one that was skipped or missed or has failed."""
    worst_delay: timedelta
    """The longest time from a slot to the start of its first attempt."""
    worst_answer: timedelta
    """The longest that `/health/live` took."""
    refused: int
    """How often `/health/live` gave anything but a 200."""
    peak_memory: int
    """The most resident memory of the service during the attack, in bytes."""


class Observer:
    """Measures what an attack does to the service and to the job of the other user."""

    def __init__(self, service: Service, job_id: str, probe_log: Path) -> None:
        self._service = service
        self._job_id = job_id
        self._probe_log = probe_log

    def forget_peak_memory(self) -> None:
        Path(f"/proc/{self._service.pid}/clear_refs").write_text("5")

    async def observe(self, since: datetime, until: datetime) -> Noticed:
        """Return what was noticed of the slots in (since, until]."""
        executions = await self._list_executions(since, until)
        delays = [_measure_delay(one) for one in executions if one["attempts"]]
        started = [one for one in executions if one["status"] in {"succeeded", "running"}]
        slots = int((until - since) / timedelta(seconds=1))
        answers = list(self._read_answers(since, until))
        return Noticed(
            slots=slots,
            lost=max(0, slots - len(started)),
            worst_delay=max(delays, default=until - since),
            worst_answer=timedelta(seconds=max((one["seconds"] for one in answers), default=60.0)),
            refused=sum(one["status"] != 200 for one in answers),
            peak_memory=_read_peak_memory(self._service.pid),
        )

    async def _list_executions(self, since: datetime, until: datetime) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": _PAGE}
        while True:
            path = f"/jobs/{self._job_id}/executions"
            page = await self._service.call("GET", path, params=params, timeout=_CALL_SECONDS)
            slots = [datetime.fromisoformat(one["scheduled_for"]) for one in page["items"]]
            pairs = zip(slots, page["items"], strict=True)
            found += [one for slot, one in pairs if since < slot <= until]
            if page["next_cursor"] is None or slots[-1] <= since:
                return found
            params["cursor"] = page["next_cursor"]

    def _read_answers(self, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
        for line in self._probe_log.read_text().splitlines():
            answer = json.loads(line)
            if since.timestamp() < answer["asked_at"] <= until.timestamp():
                yield answer


def _measure_delay(execution: dict[str, Any]) -> timedelta:
    started = datetime.fromisoformat(execution["attempts"][0]["started_at"])
    return started - datetime.fromisoformat(execution["scheduled_for"])


def _read_peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    [peak] = [line for line in status if line.startswith("VmHWM:")]
    return int(peak.split()[1]) * 1024


@contextlib.asynccontextmanager
async def open_arena(folder: Path) -> AsyncIterator[tuple[Arena, Observer]]:
    """Start the service with its embedded servers, a receiver, the job of the other user that runs
    every second, and the probe."""
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(Service(folder / "data"))
        receiver = (
            f"http://127.0.0.1:{stack.enter_context(run_receiver(folder / 'receiver.jsonl'))}"
        )
        names = [f"attacker{number}" for number in range(ATTACKERS)]
        for name in names:
            await asyncio.to_thread(
                add_user, name, make_environment(service.port, service.data_dir)
            )
        clients = [await stack.enter_async_context(_sign_in(service.url, name)) for name in names]
        job = await service.call("POST", "/jobs", json=_make_neighbour(receiver))
        probe_log = folder / "probe.jsonl"
        stack.enter_context(_run_probe(service.url, probe_log))
        tokens = [client.headers["Authorization"].removeprefix("Bearer ") for client in clients]
        arena = Arena(url=service.url, attackers=clients, tokens=tokens, receiver_url=receiver)
        yield arena, Observer(service, job["id"], probe_log)


def _make_neighbour(receiver: str) -> dict[str, Any]:
    """The job of the other user. The receiver responds to it after 20 ms."""
    return {
        "name": "neighbour",
        "target": {"type": "http", "url": f"{receiver}/neighbour"},
        "schedules": [{"type": "interval", "interval_seconds": 1}],
        "overlap_policy": "skip",
    }


@contextlib.asynccontextmanager
async def _sign_in(url: str, name: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=url, timeout=_CALL_SECONDS) as client:
        response = await client.post("/token", data={"username": name, "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
        yield client


@contextlib.contextmanager
def _run_probe(url: str, log: Path) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.hostile.probe", url],
            cwd=ROOT,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def now() -> datetime:
    return datetime.now(UTC)
