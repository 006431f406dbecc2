"""Cron trigger: the instants that a cron expression names on the wall clock of a time zone.

The expression is read by cron_dialect.py, the calendar is wall_time.py's and the zone's changes
are zone_offsets.py's. Here stands what brings them together: which readings of the wall clock
count in each stretch of one offset, hence what happens where the clock leaps or is put back.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from app.errors import InvalidInputError
from app.triggers.cron_dialect import read
from app.triggers.wall_time import FAR_FUTURE, FAR_PAST, WallRule
from app.triggers.zone_offsets import (
    BEGIN,
    END,
    Stretch,
    ZoneOffsets,
    ceiling_of,
    instant_of,
    offsets_of,
    seconds_of,
)


class Dst(StrEnum):
    """What a fixed time does where the clock changes.

    A time is fixed if neither its minute nor its hour field begins with `*`; all others follow
    real time, whatever is chosen here: not in a gap, and in both passes of a repeated hour.
    """

    DEBIAN = "debian"
    """As Debian's cron: times in a gap fire once when it ends, times that repeat only at first."""
    SKIP = "skip"
    """Times in a gap are left out, and times that repeat fire only at first."""
    TWICE = "twice"
    """Times in a gap fire once when it ends, and times that repeat fire both times."""


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """Names the instants of a cron expression, from 2000 to 2100. Made by `parse` alone."""

    expression: str
    zone: ZoneInfo
    seconds: bool
    dst: Dst
    _rule: WallRule = field(repr=False, compare=False)
    _offsets: ZoneOffsets = field(repr=False, compare=False)
    _has_fixed_time: bool = field(repr=False, compare=False)

    @classmethod
    def parse(
        cls, expression: str, *, zone: ZoneInfo, seconds: bool = False, dst: Dst = Dst.DEBIAN
    ) -> "CronTrigger":
        """The trigger of an expression of the dialect that cron_dialect.py describes.

        `seconds` asks for a sixth field, which is the first. Raises InvalidInputError, which
        names the field, for what is outside the dialect and for what never fires until 2100.
        """
        return _parse(expression, zone, seconds, dst)

    def next_after(self, instant: datetime) -> datetime | None:
        """The first slot strictly after `instant`, or None when there is none until 2100."""
        second = max(BEGIN, seconds_of(instant) + 1)
        if second >= END:
            return None
        searched = found = FAR_PAST
        stretches = self._offsets.stretches
        for index in range(self._offsets.index_at(second), len(stretches)):
            stretch = stretches[index]
            start = self._start(stretch, second)
            if not searched <= start <= found:  # else the last search answers this one too
                searched, found = start, self._rule.first_from(start)
            if found < stretch.wall_ends:
                return _slot(stretch, found)
        return None

    def last_until(self, instant: datetime) -> datetime | None:
        """The last slot at or before `instant`, or None when there is none since 2000."""
        second = min(END - 1, seconds_of(instant))
        if second < BEGIN:
            return None
        searched = found = FAR_FUTURE
        stretches = self._offsets.stretches
        for index in range(self._offsets.index_at(second), -1, -1):
            stretch = stretches[index]
            end = min(stretch.wall_ends - 1, second + stretch.offset)
            if not found <= end <= searched:
                searched, found = end, self._rule.last_until(end)
            if found >= self._opens(stretch):
                return _slot(stretch, found)
        return None

    def count(self, first: datetime, last: datetime) -> int:
        """How many slots there are in [first, last], without going through them."""
        start = max(BEGIN, ceiling_of(first))
        end = min(END - 1, seconds_of(last))
        if end < start:
            return 0
        stretches = self._offsets.stretches
        indexes = range(self._offsets.index_at(start), self._offsets.index_at(end) + 1)
        return sum(self._count_in(stretches[index], start, end) for index in indexes)

    def _count_in(self, stretch: Stretch, start: int, end: int) -> int:
        """How many slots of the stretch there are in the seconds [start, end]."""
        opens = self._start(stretch, start)
        count = self._rule.count(opens, min(stretch.wall_ends, end + 1 + stretch.offset))
        if opens < stretch.wall_begins:  # all that was swallowed is one slot, when the gap ends
            count -= max(0, self._rule.count(opens, stretch.wall_begins + 1) - 1)
        return count

    def _start(self, stretch: Stretch, second: int) -> int:
        """The first reading of the stretch that counts when slots before `second` do not."""
        opens = self._opens(stretch)
        return opens if second <= stretch.begins else max(opens, second + stretch.offset)

    def _opens(self, stretch: Stretch) -> int:
        """The first reading that counts in the stretch.

        The earlier of `reached` and `wall_begins` takes in what the change swallowed or what
        comes a second time; the later leaves it out.
        """
        if not self._has_fixed_time:
            return stretch.wall_begins
        match self.dst:
            case Dst.DEBIAN:
                return stretch.reached
            case Dst.SKIP:
                return max(stretch.reached, stretch.wall_begins)
            case Dst.TWICE:
                return min(stretch.reached, stretch.wall_begins)


def _slot(stretch: Stretch, reading: int) -> datetime:
    """The instant of a reading that counts in the stretch; a swallowed one's is its begin."""
    return instant_of(max(stretch.begins, reading - stretch.offset))


@lru_cache(maxsize=4096)
def _parse(expression: str, zone: ZoneInfo, seconds: bool, dst: Dst) -> CronTrigger:
    fields = read(expression, seconds=seconds)
    trigger = CronTrigger(
        expression=expression,
        zone=zone,
        seconds=seconds,
        dst=dst,
        _rule=WallRule.of(fields),
        _offsets=offsets_of(zone),
        _has_fixed_time=fields.has_fixed_time,
    )
    if trigger.next_after(instant_of(BEGIN - 1)) is None:
        raise InvalidInputError(
            "cron expression: it never fires: nothing until 2100 matches its day-of-month, month "
            "and day-of-week fields"
        )
    return trigger
