"""Saturation: since when due executions have waited for slots of this process."""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from app.clock import Clock

_log = structlog.get_logger(__name__)

_REPORTED_AFTER = timedelta(seconds=10)  # a burst of short attempts is normal
_MAX_NAMED = 10


class Saturation:
    """What each round of the worker has found. `/health/ready` shows it as a warning.

    The warning names no owner, because the route needs no token. The log names them.
    """

    def __init__(self, *, clock: Clock, concurrency: int) -> None:
        self._clock = clock
        self._concurrency = concurrency
        self._since: float | None = None
        self._all_taken = False
        self._logged = False

    def note_taken(self, owners: Sequence[str]) -> None:
        """No slot is free. `owners`: those that hold the slots, the largest holder first."""
        self._begin(all_taken=True)
        self._report(owners)

    def note_read(self, *, due_since: float | None, owners: Sequence[str]) -> None:
        """Slots were free. `due_since`: since when the first execution in the queue has been due,
        by the monotonic clock. `owners`: those whose due executions wait nevertheless.

        An owner that gets slots may have more due executions than slots. So nobody waits any longer
        only when all that was due at the beginning has left the queue.
        """
        if due_since is None:
            self._since = None
        elif self._since is not None:
            self._since = max(self._since, due_since)
        if owners:
            self._begin(all_taken=False)
        self._report(owners)

    def _begin(self, *, all_taken: bool) -> None:
        self._all_taken = all_taken
        if self._since is None:
            self._since = self._clock.monotonic()

    def _report(self, owners: Sequence[str]) -> None:
        if not self._is_long():
            self._logged = False
        elif owners and not self._logged:
            self._logged = True
            named = list(owners[:_MAX_NAMED])
            _log.warning("slots_saturated", all_taken=self._all_taken, owner_ids=named)

    def describe(self) -> str | None:
        """The warning; None if executions do not wait, or wait only since a short time."""
        if not self._is_long():
            return None
        if self._all_taken:
            found = f"all {self._concurrency} slots of this worker have been taken for"
            effect = "due executions wait until one is free"
        else:
            found = "due executions have waited for"
            effect = "their owner runs as many as it may"
        return (
            f"{found} {self._count_seconds():.0f} s: {effect}; the log (slots_saturated) names the"
            " owners; lower their timeouts, or raise WORKER_CONCURRENCY, MAX_RUNNING_PER_OWNER or"
            " the number of workers"
        )

    def _is_long(self) -> bool:
        return self._count_seconds() >= _REPORTED_AFTER.total_seconds()

    def _count_seconds(self) -> float:
        return 0.0 if self._since is None else self._clock.monotonic() - self._since
