"""The lease keeper: renews this process's leases from a thread of its own.

User code that blocks the event loop cannot starve it. But a loop that has not answered for a
whole lease is dead: then nothing is renewed, so that other processes take its work over.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from app.clock import Clock
from app.errors import UnavailableError
from app.repositories.heartbeat import Heartbeat
from app.repositories.leases import Lease

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    token: int
    until: float
    """On the monotonic clock, counted from before the request: never later than the database's."""


class LeaseKeeper:
    """Knows which leases this process holds, and until when for certain."""

    def __init__(
        self,
        *,
        heartbeat: Heartbeat,
        owner: str,
        lease: timedelta,
        clock: Clock,
        on_lost: Callable[[set[str]], None],
    ) -> None:
        self._heartbeat = heartbeat
        self._owner = owner
        self._lease = lease
        self._clock = clock
        self._on_lost = on_lost
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_answered_at = clock.monotonic()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to renew, every quarter of a lease. Call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_answered_at = self._clock.monotonic()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop,), name="lease-keeper", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def hold(self, lease: Lease, *, since: float) -> None:
        """A lease was claimed by a request that began at `since` (monotonic)."""
        with self._lock:
            held = self._held.get(lease.execution_id)
            if held is None or held.token != lease.token:
                until = since + self._lease.total_seconds()
                self._held[lease.execution_id] = _Held(lease.token, until)

    def release(self, lease: Lease) -> None:
        """The lease is settled or lost."""
        with self._lock:
            held = self._held.get(lease.execution_id)
            if held is not None and held.token == lease.token:
                del self._held[lease.execution_id]

    def expiring(self, *, within: timedelta) -> set[str]:
        """The executions whose lease was not renewed in time, or will end `within`."""
        limit = self._clock.monotonic() + within.total_seconds()
        with self._lock:
            return {id_ for id_, held in self._held.items() if held.until <= limit}

    def renew(self) -> None:
        """One round. Leases that somebody else has taken are reported to the event loop."""
        asked_at = self._clock.monotonic()
        if asked_at - self._loop_answered_at > self._lease.total_seconds():
            _log.error("event_loop_dead", owner=self._owner)
            return
        with self._lock:
            tokens = {id_: held.token for id_, held in self._held.items()}
        if not tokens:
            return
        try:
            kept = self._heartbeat.renew(self._owner, tokens, lease=self._lease)
        except UnavailableError as error:
            _log.warning("leases_not_renewed", owner=self._owner, error=error.detail)
            return
        self._note(tokens, kept, until=asked_at + self._lease.total_seconds())

    def _note(self, tokens: dict[str, int], kept: set[str], *, until: float) -> None:
        lost: set[str] = set()
        with self._lock:
            for id_, token in tokens.items():
                held = self._held.get(id_)
                if held is None or held.token != token:
                    continue  # settled meanwhile
                if id_ in kept:
                    self._held[id_] = _Held(token, until)
                else:
                    lost.add(id_)
        if lost and self._loop is not None:
            self._loop.call_soon_threadsafe(self._on_lost, lost)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stop.wait(self._lease.total_seconds() / 4):
            loop.call_soon_threadsafe(self._answer)
            self.renew()

    def _answer(self) -> None:
        self._loop_answered_at = self._clock.monotonic()
