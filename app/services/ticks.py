"""Ticks: this process tells all others that it schedules now, and learns when nobody did."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from app.clock import Clock
from app.models.coverage import Coverage, Gap
from app.repositories.jobs import JobRepository
from app.repositories.ticks import BEGINNING, Tick, TickRepository

_log = structlog.get_logger(__name__)

TICK_INTERVAL = timedelta(seconds=2)
"""A process writes at most one tick in this time, unless its coverage has run out."""

MAX_GAPS = 1_000
"""More gaps are kept only if jobs have undecided slots in them. Each tick rewrites their document.
A gap ends at least 14 seconds after the one before, so these reach back almost four hours."""


class TickService:
    """Writes the ticks of this process and keeps what it knows of gaps.

    A process may decide on a slot only if an acknowledged tick of its own covers the slot. Every
    gap with that slot was then stored before this tick, and the process knows it. So all processes
    decide the same, at any time. Every method may raise UnavailableError.
    """

    def __init__(
        self,
        *,
        ticks: TickRepository,
        jobs: JobRepository,
        clock: Clock,
        scheduler: str | None,
        retention: timedelta,
    ) -> None:
        self._ticks = ticks
        self._jobs = jobs
        self._clock = clock
        self.scheduler = scheduler
        """The name of this process; None if it has no scheduler."""
        self._retention = retention
        self._gaps: tuple[Gap, ...] = ()
        self._last: Tick | None = None
        self._ticked_at = 0.0  # on the monotonic clock

    async def cover(self, now: datetime | None = None) -> Coverage:
        """Tick, unless this process did so in the last two seconds and covers `now`."""
        last = self._last
        is_old = self.get_rest() <= timedelta(0)
        if last is None or is_old or (now is not None and now > last.covered_until):
            last = await self._tick()
        return Coverage(last.covered_until, self._gaps, last.schedulers)

    def get_rest(self) -> timedelta:
        """Return the time until the next tick is due."""
        if self._last is None:
            return timedelta(0)
        elapsed = timedelta(seconds=self._clock.monotonic() - self._ticked_at)
        return TICK_INTERVAL - elapsed

    async def leave(self) -> None:
        """Let the other schedulers take over the jobs of this one immediately."""
        if self.scheduler is not None and self._last is not None:
            await self._ticks.leave(self.scheduler)

    async def _tick(self) -> Tick:
        began_at = self._clock.monotonic()
        known = None if self._last is None else self._last.last_gap_until
        tick = await self._ticks.tick(scheduler=self.scheduler, known_gap_until=known)
        last = self._last
        if last is None or tick.covered_until >= last.covered_until:
            self._gaps = self._gaps if tick.gaps is None else tick.gaps
            self._last, self._ticked_at = tick, began_at
        # Otherwise a later tick was answered first. It has all gaps of this one, and maybe more.
        if tick.gaps and tick.gaps[-1].found_at == tick.at:
            gap = tick.gaps[-1]
            if gap.after != BEGINNING:  # otherwise this is the first start
                _log.warning(
                    "nothing_scheduled", after=gap.after.isoformat(), until=gap.until.isoformat()
                )
            await self._prune(tick.at, tick.gaps)
        return self._last or tick

    async def _prune(self, now: datetime, gaps: Sequence[Gap]) -> None:
        """Delete gaps in which no job has an undecided slot: the old ones, and all but the newest
        1,000. Only a new gap needs room."""
        earliest = await self._jobs.find_earliest_next_run()
        before = now - self._retention
        if len(gaps) > MAX_GAPS:
            before = max(before, gaps[-MAX_GAPS].until)
        await self._ticks.prune_gaps(before if earliest is None else min(before, earliest))
