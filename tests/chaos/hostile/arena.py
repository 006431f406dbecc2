"""The service that is attacked, its attackers, and the other user who must not notice them."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
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
_STARTED = {"succeeded", "running"}


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
    lost: Counter[str]
    """What became of those that have no execution that succeeded or runs."""
    worst_delay: timedelta
    """The longest time from a slot to the start of its first attempt."""
    worst_answer: timedelta
    """The longest that `/health/live` took."""
    refused: int
    """How often `/health/live` gave anything but a 200."""
    peak_memory: int
    """The most resident memory of the service during the attack, in bytes."""
    cpu_seconds: float
    """The CPU time of the service since the start of the attack."""
    waited_seconds: float
    """The time in which the event loop's thread waited for a CPU that others used."""
    longest_turn: float
    """The most CPU time, in seconds, that the event loop used before it took up a new call."""


class Observer:
    """Measures what an attack does to the service and to the job of the other user."""

    def __init__(self, service: Service, job_id: str, *, probe_log: Path, loop_log: Path) -> None:
        self._service = service
        self._job_id = job_id
        self._probe_log = probe_log
        self._loop_log = loop_log
        self._cpu_seconds = self._waited_seconds = 0.0

    def begin(self) -> None:
        """Forget the peak of the memory and the CPU time until now."""
        Path(f"/proc/{self._service.pid}/clear_refs").write_text("5")
        self._cpu_seconds = _read_cpu_seconds(self._service.pid)
        self._waited_seconds = _read_waited_seconds(self._service.pid)

    async def observe(self, since: datetime, until: datetime) -> Noticed:
        """Return what was noticed of the slots in (since, until]."""
        executions = await self._list_executions(since, until)
        delays = [_measure_delay(one) for one in executions if one["attempts"]]
        slots = int((until - since) / timedelta(seconds=1))
        ends = Counter(_describe_end(one) for one in executions)
        lost = Counter({end: count for end, count in ends.items() if end not in _STARTED})
        lost["without a record"] = max(0, slots - ends.total())
        answers = _read_lines(self._probe_log, "asked_at", since, until)
        calls = _read_lines(self._loop_log, "posted_at", since, until)
        return Noticed(
            slots=slots,
            lost=+lost,
            worst_delay=max(delays, default=until - since),
            worst_answer=timedelta(seconds=max((one["seconds"] for one in answers), default=60.0)),
            refused=sum(one["status"] != 200 for one in answers),
            peak_memory=_read_peak_memory(self._service.pid),
            cpu_seconds=_read_cpu_seconds(self._service.pid) - self._cpu_seconds,
            waited_seconds=_read_waited_seconds(self._service.pid) - self._waited_seconds,
            longest_turn=max((one["cpu_seconds"] for one in calls), default=0.0),
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


def _read_lines(log: Path, instant: str, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """The JSON lines of a log whose field `instant` lies in (since, until]."""
    lines = map(json.loads, log.read_text().splitlines())
    return [line for line in lines if since.timestamp() < line[instant] <= until.timestamp()]


def _describe_end(execution: dict[str, Any]) -> str:
    reason = execution["reason"]
    return f"{execution['status']} ({reason})" if reason else str(execution["status"])


def _measure_delay(execution: dict[str, Any]) -> timedelta:
    started = datetime.fromisoformat(execution["attempts"][0]["started_at"])
    return started - datetime.fromisoformat(execution["scheduled_for"])


def _read_peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    [peak] = [line for line in status if line.startswith("VmHWM:")]
    return int(peak.split()[1]) * 1024


def _read_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read_waited_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


@contextlib.asynccontextmanager
async def open_arena(folder: Path) -> AsyncIterator[tuple[Arena, Observer]]:
    """Start the service with its embedded servers, a receiver, the job of the other user that runs
    every second, and the probe."""
    async with contextlib.AsyncExitStack() as stack:
        loop_log, probe_log = folder / "loop.jsonl", folder / "probe.jsonl"
        program = ("tests.chaos.hostile.watched", str(loop_log))
        service = await stack.enter_async_context(Service(folder / "data", program=program))
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
        stack.enter_context(_run_probe(service.url, probe_log))
        tokens = [client.headers["Authorization"].removeprefix("Bearer ") for client in clients]
        arena = Arena(url=service.url, attackers=clients, tokens=tokens, receiver_url=receiver)
        yield arena, Observer(service, job["id"], probe_log=probe_log, loop_log=loop_log)


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
