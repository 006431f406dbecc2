"""Zone offsets: a time zone from 2000 to 2100, split into spans of one UTC offset each.

In a span, an addition converts between a reading of the wall clock and an instant. Instants are
whole seconds of UTC here, counted like the readings of wall_time.py.
"""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import compress, count, islice
from operator import is_not
from typing import NamedTuple, cast
from zoneinfo import ZoneInfo

from app.triggers.wall_time import DAY

_ORIGIN = datetime(1, 1, 1, tzinfo=UTC)
_ORIGIN_SECONDS = _ORIGIN.toordinal() * DAY
_EPOCH_SECONDS = datetime(1970, 1, 1, tzinfo=UTC).toordinal() * DAY
_SECOND = timedelta(seconds=1)

_WEEK = 7 * DAY
# Less than the shortest span in the zone data of 2026, 7 days (America/Recife, October 2000).
_SAMPLE_EVERY = 3 * DAY


def floor_seconds(instant: datetime) -> int:
    """Round an instant down to a whole second."""
    return (instant - _ORIGIN) // _SECOND + _ORIGIN_SECONDS


def ceil_seconds(instant: datetime) -> int:
    """Round an instant up to a whole second."""
    return -((_ORIGIN - instant) // _SECOND) + _ORIGIN_SECONDS


def to_instant(seconds: int) -> datetime:
    return _ORIGIN + timedelta(seconds=seconds - _ORIGIN_SECONDS)


START = floor_seconds(datetime(2000, 1, 1, tzinfo=UTC))
"""The first second of all spans."""
END = floor_seconds(datetime(2101, 1, 1, tzinfo=UTC))
"""The first second after all spans."""

_FIRST_SAMPLE = START - _SAMPLE_EVERY
_SAMPLES = tuple(
    to_instant(reading).replace(tzinfo=None)
    for reading in range(_FIRST_SAMPLE, END + 2 * _SAMPLE_EVERY, _SAMPLE_EVERY)
)
"""Readings of the wall clock at which a zone's offset is looked up."""


class OffsetSpan(NamedTuple):
    """A period with one UTC offset: instants [start, end), readings [wall_start, wall_end)."""

    start: int
    end: int
    offset: int
    wall_start: int
    wall_end: int
    first_new: int
    """The first reading that the wall clock has not shown before this span.

    If the clock was set forward, `first_new` is earlier than `wall_start`, and the readings between
    them are skipped. If the clock was set back, `first_new` is later than `wall_start`, and the
    readings between them are repeated.
    """


class ZoneOffsets:
    """The spans of one zone, in order and without gaps from START to END."""

    __slots__ = ("_starts", "spans")

    def __init__(self, zone: ZoneInfo) -> None:
        self.spans = _compute_spans(zone)
        self._starts = [span.start for span in self.spans]

    def index_at(self, utc_second: int) -> int:
        """Return the index of the span with this second of UTC, which must be in [START, END)."""
        return bisect_right(self._starts, utc_second) - 1


@lru_cache(maxsize=1024)
def offsets_of(zone: ZoneInfo) -> ZoneOffsets:
    """Return the spans of a zone. They are cached, because computing them takes about 2 ms."""
    return ZoneOffsets(zone)


def _compute_spans(zone: ZoneInfo) -> tuple[OffsetSpan, ...]:
    starts = [START, *_find_changes(zone)]
    ends = [*starts[1:], END]
    spans: list[OffsetSpan] = []
    first_new = START + _offset(zone, START)
    for start, end in zip(starts, ends, strict=True):
        offset = _offset(zone, start)
        spans.append(OffsetSpan(start, end, offset, start + offset, end + offset, first_new))
        first_new = max(first_new, end + offset)
    return tuple(spans)


def _find_changes(zone: ZoneInfo) -> list[int]:
    """Return the seconds at which the zone's offset changes."""
    # One call in C for each sample. All samples in one offset have the same object.
    offsets = cast(list[timedelta], list(map(zone.utcoffset, _SAMPLES)))
    changes: list[int] = []
    for n in compress(count(1), map(is_not, offsets, islice(offsets, 1, None))):
        if offsets[n] == offsets[n - 1]:
            continue
        # The zone has the old offset for all readings before this change plus the larger offset.
        until = _FIRST_SAMPLE + n * _SAMPLE_EVERY - max(offsets[n - 1], offsets[n]) // _SECOND
        changes.append(_find_change(zone, until - _SAMPLE_EVERY, until, changes))
    return [change for change in changes if START < change < END]


def _find_change(zone: ZoneInfo, before: int, after: int, earlier: list[int]) -> int:
    """Find the second of the only change in (before, after].

    Most changes to summer time are at the same second of the week, and so are most changes back.
    For all others it bisects.
    """
    if len(earlier) > 1:
        expected = after - (after - earlier[-2]) % _WEEK
        if expected > before and _offset(zone, expected) != _offset(zone, expected - 1):
            return expected
    offset = _offset(zone, before)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == offset:
            before = middle
        else:
            after = middle
    return after


def _offset(zone: ZoneInfo, utc_second: int) -> int:
    """Return the zone's offset at this second of UTC, in seconds east of UTC."""
    offset = datetime.fromtimestamp(utc_second - _EPOCH_SECONDS, zone).utcoffset()
    assert offset is not None  # noqa: S101 - a ZoneInfo always has an offset
    return offset // _SECOND
