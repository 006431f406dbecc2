"""Interval trigger: one slot per period, counted from an anchor, so that slots do not drift."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class IntervalTrigger:
    """Names `anchor + n * period` for n = 0, 1, 2 …"""

    anchor: datetime
    period: timedelta

    def next_after(self, instant: datetime) -> datetime | None:
        if instant < self.anchor:
            return self.anchor
        return self._slot((instant - self.anchor) // self.period + 1)

    def last_until(self, instant: datetime) -> datetime | None:
        if instant < self.anchor:
            return None
        return self._slot((instant - self.anchor) // self.period)

    def count(self, first: datetime, last: datetime) -> int:
        before_first = -((self.anchor - first) // self.period) if first > self.anchor else 0
        through_last = (last - self.anchor) // self.period + 1 if last >= self.anchor else 0
        return max(0, through_last - before_first)

    def _slot(self, n: int) -> datetime | None:
        try:
            return self.anchor + n * self.period
        except OverflowError:  # beyond the year 9999
            return None
