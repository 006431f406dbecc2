"""The lease keeper: renews this process's leases from a thread of its own.

Code that blocks the event loop does not delay the renewals. But if the event loop has not responded
for the duration of a lease, nothing is renewed, and other processes take over the executions.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from app.clock import Clock
from app.errors import UnavailableError
from app.repositories.heartbeat import RENEWAL_BATCH, HeartbeatRepository
from app.repositories.lease_fence import Lease

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    lease: Lease
    until: float
    """The end of the lease on the monotonic clock. It is computed from the instant before the
    request, so it is not later than `lease_until` in the database."""


class LeaseKeeper:
    """Knows the leases of this process, and until when each is certainly valid."""

    def __init__(
        self,
        *,
        heartbeat: HeartbeatRepository,
        lease_owner: str,
        term: timedelta,
        clock: Clock,
        on_lost: Callable[[set[Lease]], None],
    ) -> None:
        self._heartbeat = heartbeat
        self._lease_owner = lease_owner
        self._term = term
        self._clock = clock
        self._on_lost = on_lost
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_responded_at = clock.monotonic()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start to renew the leases, every quarter of their term. Call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_responded_at = self._clock.monotonic()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def hold(self, lease: Lease, *, since: float) -> None:
        """Renew this lease from now on. Its claim was sent at `since` (monotonic)."""
        with self._lock:
            if not self._is_held(lease):
                until = since + self._term.total_seconds()
                self._held[lease.execution_id] = _Held(lease, until)

    def release(self, lease: Lease) -> None:
        """Stop renewing: the lease is settled or lost."""
        with self._lock:
            if self._is_held(lease):
                del self._held[lease.execution_id]

    def count_held(self) -> int:
        """The number of executions that this process has claimed and not settled."""
        with self._lock:
            return len(self._held)

    def list_expiring(self, *, within: timedelta) -> set[str]:
        """The executions whose lease has run out, or runs out `within`."""
        limit = self._clock.monotonic() + within.total_seconds()
        with self._lock:
            return {id_ for id_, held in self._held.items() if held.until <= limit}

    def renew(self) -> None:
        """Renew all leases once, those that run out first before the others.

        Calls `on_lost` on the event loop for leases that another process has taken. After a failed
        request it stops: the leases that it has renewed so far stay renewed.
        """
        with self._lock:
            held = sorted(self._held.values(), key=lambda one: one.until)
        leases = [one.lease for one in held]
        for start in range(0, len(leases), RENEWAL_BATCH):
            if not self._renew_batch(leases[start : start + RENEWAL_BATCH]):
                return

    def _renew_batch(self, leases: list[Lease]) -> bool:
        """Renew these leases, without those that were released meanwhile. False if the event loop
        or the database does not respond."""
        asked_at = self._clock.monotonic()
        if asked_at - self._loop_responded_at > self._term.total_seconds():
            _log.error("event_loop_dead", lease_owner=self._lease_owner)
            return False
        with self._lock:
            leases = [lease for lease in leases if self._is_held(lease)]
        if not leases:
            return True
        try:
            kept = self._heartbeat.renew(self._lease_owner, leases, term=self._term)
        except UnavailableError as error:
            _log.warning("leases_not_renewed", lease_owner=self._lease_owner, error=error.detail)
            return False
        self._note_renewals(leases, kept, until=asked_at + self._term.total_seconds())
        self._ask_loop()  # many batches may take longer than a lease
        return True

    def _is_held(self, lease: Lease) -> bool:
        """Call it with the lock."""
        held = self._held.get(lease.execution_id)
        return held is not None and held.lease == lease

    def _note_renewals(self, leases: list[Lease], kept: set[str], *, until: float) -> None:
        lost: set[Lease] = set()
        with self._lock:
            for lease in leases:
                if not self._is_held(lease):
                    continue  # settled meanwhile
                if lease.execution_id in kept:
                    self._held[lease.execution_id] = _Held(lease, until)
                else:
                    lost.add(lease)
        if lost and self._loop is not None:
            self._loop.call_soon_threadsafe(self._on_lost, lost)

    def _run(self) -> None:
        while not self._stop.wait(self._term.total_seconds() / 4):
            self._ask_loop()
            self.renew()

    def _ask_loop(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._note_response)

    def _note_response(self) -> None:
        self._loop_responded_at = self._clock.monotonic()
