"""Zone offsets: a time zone from 2000 to 2100 as stretches of one offset from UTC each.

With these, from a wall clock's reading to an instant and back is an addition. Instants are
whole seconds of UTC here, counted like the readings of wall_time.py.
"""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from app.triggers.wall_time import DAY

_ORIGIN = datetime(1, 1, 1, tzinfo=UTC)
_ORIGIN_SECONDS = _ORIGIN.toordinal() * DAY
_EPOCH_SECONDS = datetime(1970, 1, 1, tzinfo=UTC).toordinal() * DAY
_SECOND = timedelta(seconds=1)

# The shortest stretch in today's zone data is one of 7 days (America/Recife, October 2000).
_SAMPLE_EVERY = 3 * DAY


def seconds_of(instant: datetime) -> int:
    """The whole second that an instant lies in."""
    return (instant - _ORIGIN) // _SECOND + _ORIGIN_SECONDS


def ceiling_of(instant: datetime) -> int:
    """The first whole second that does not begin before an instant."""
    return -((_ORIGIN - instant) // _SECOND) + _ORIGIN_SECONDS


def instant_of(seconds: int) -> datetime:
    return _ORIGIN + timedelta(seconds=seconds - _ORIGIN_SECONDS)


BEGIN = seconds_of(datetime(2000, 1, 1, tzinfo=UTC))
"""The first second that is looked at."""
END = seconds_of(datetime(2101, 1, 1, tzinfo=UTC))
"""The second after the last."""


class Stretch(NamedTuple):
    """A time of one offset: instants in [begins, ends), readings in [wall_begins, wall_ends)."""

    begins: int
    ends: int
    offset: int
    wall_begins: int
    wall_ends: int
    reached: int
    """The first reading that the wall clock has not shown before this stretch.

    Earlier than `wall_begins` when the clock leaps forward: what lies between is swallowed.
    Later when it is put back: what lies between comes a second time.
    """


class ZoneOffsets:
    """The stretches of one zone, in order and without holes from BEGIN to END."""

    __slots__ = ("_begins", "stretches")

    def __init__(self, zone: ZoneInfo) -> None:
        self.stretches = _stretches(zone)
        self._begins = [stretch.begins for stretch in self.stretches]

    def index_at(self, second: int) -> int:
        """Which of the stretches holds this second, which must lie in [BEGIN, END)."""
        return bisect_right(self._begins, second) - 1


@lru_cache(maxsize=1024)
def offsets_of(zone: ZoneInfo) -> ZoneOffsets:
    """Remembered for every zone, because reading one takes some 10 ms."""
    return ZoneOffsets(zone)


def _stretches(zone: ZoneInfo) -> tuple[Stretch, ...]:
    begins = [BEGIN, *_changes(zone)]
    ends = [*begins[1:], END]
    stretches: list[Stretch] = []
    reached = BEGIN + _offset(zone, BEGIN)
    for begin, end in zip(begins, ends, strict=True):
        offset = _offset(zone, begin)
        stretches.append(Stretch(begin, end, offset, begin + offset, end + offset, reached))
        reached = max(reached, end + offset)
    return tuple(stretches)


def _changes(zone: ZoneInfo) -> list[int]:
    """The seconds at which the zone's offset changes."""
    changes: list[int] = []
    offset = _offset(zone, BEGIN)
    for sample in range(BEGIN, END, _SAMPLE_EVERY):
        until = min(sample + _SAMPLE_EVERY, END - 1)
        if _offset(zone, until) != offset:
            changes.append(_first_change(zone, sample, until))
            offset = _offset(zone, until)
    return changes


def _first_change(zone: ZoneInfo, before: int, after: int) -> int:
    """By bisection, the second of the one change in (before, after]."""
    offset = _offset(zone, before)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == offset:
            before = middle
        else:
            after = middle
    return after


def _offset(zone: ZoneInfo, second: int) -> int:
    """Seconds east of UTC."""
    offset = datetime.fromtimestamp(second - _EPOCH_SECONDS, zone).utcoffset()
    assert offset is not None  # noqa: S101 - a ZoneInfo always knows
    return offset // _SECOND
