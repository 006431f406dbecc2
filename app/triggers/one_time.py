"""One-time trigger: a single instant."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class OneTimeTrigger:
    """Names the instant `run_at` only."""

    run_at: datetime

    def next_after(self, instant: datetime) -> datetime | None:
        return self.run_at if self.run_at > instant else None

    def last_until(self, instant: datetime) -> datetime | None:
        return self.run_at if self.run_at <= instant else None

    def count(self, first: datetime, last: datetime) -> int:
        return int(first <= self.run_at <= last)
