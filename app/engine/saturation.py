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

    def note(self, *, all_taken: bool = False, owners: Sequence[str] = ()) -> None:
        """`owners`: those whose due executions wait although slots are free. With `all_taken`:
        those that hold the slots, the largest holder first."""
        if not all_taken and not owners:
            self._since, self._logged = None, False
            return
        if self._since is None:
            self._since = self._clock.monotonic()
        self._all_taken = all_taken
        if not self._logged and self._count_seconds() >= _REPORTED_AFTER.total_seconds():
            self._logged = True
            named = list(owners[:_MAX_NAMED])
            _log.warning("slots_saturated", all_taken=all_taken, owner_ids=named)

    def describe(self) -> str | None:
        """The warning; None if executions do not wait, or wait only since a short time."""
        seconds = self._count_seconds()
        if seconds < _REPORTED_AFTER.total_seconds():
            return None
        if self._all_taken:
            found = f"all {self._concurrency} slots of this worker have been taken for"
            effect = "due executions wait until one is free"
        else:
            found = "due executions have waited for"
            effect = "their owner runs as many as it may"
        return (
            f"{found} {seconds:.0f} s: {effect}; the log (slots_saturated) names the owners; lower"
            " their timeouts, or raise WORKER_CONCURRENCY, MAX_RUNNING_PER_OWNER or the number of"
            " workers"
        )

    def _count_seconds(self) -> float:
        return 0.0 if self._since is None else self._clock.monotonic() - self._since
