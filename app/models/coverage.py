"""Coverage: up to which instant the service has scheduled, and the gaps in which it did not."""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without scheduling. The slots in (`after`, `until`] are late. It never changes."""

    after: datetime
    until: datetime
    found_at: datetime
    """The instant of the tick that ended it, just over 10 seconds after `until`."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What an acknowledged tick of this process has stored or found."""

    covered_until: datetime
    """Each gap that is stored later begins at this instant or after it."""
    gaps: tuple[Gap, ...] = ()
    """All gaps up to `covered_until` in which an undecided slot may lie, the oldest first."""
    schedulers: tuple[str, ...] = ()
    """The names of the processes whose schedulers ticked recently, in order."""

    def find_limit(self, now: datetime) -> datetime:
        """Return the instant up to which slots may be decided at `now`.

        A gap is decided as a whole. If the clock has jumped back into a stored gap, the slots in
        this gap wait until it has passed, so that all processes decide the same.
        """
        index = bisect_left(self.gaps, now, key=lambda gap: gap.until)
        if index < len(self.gaps) and self.gaps[index].after < now < self.gaps[index].until:
            return self.gaps[index].after
        return now

    def find_gap(self, slot: datetime) -> Gap | None:
        """Return the gap in which the slot lies; None if the slot is on time."""
        index = bisect_left(self.gaps, slot, key=lambda gap: gap.until)
        if index < len(self.gaps) and self.gaps[index].after < slot:
            return self.gaps[index]
        return None
