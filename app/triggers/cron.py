"""Cron trigger: the instants that a cron expression names on the wall clock of a time zone.

cron_dialect.py reads the expression, wall_time.py computes on the calendar, and zone_offsets.py
splits the time of a zone into spans of one UTC offset. This module combines them. It decides which
readings of the wall clock are slots in each span, and so what happens where the clock changes.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from app.errors import InvalidInputError
from app.triggers.cron_dialect import parse_fields
from app.triggers.wall_time import FAR_FUTURE, FAR_PAST, WallRule
from app.triggers.zone_offsets import (
    END,
    START,
    OffsetSpan,
    ZoneOffsets,
    ceil_seconds,
    floor_seconds,
    offsets_of,
    to_instant,
)


class Dst(StrEnum):
    """What happens to a fixed time when the clock changes.

    A time is fixed if neither its minute nor its hour field begins with `*`. All other times follow
    real time under every rule: they do not fire in a gap and fire in both passes of a repeated
    hour.
    """

    DEBIAN = "debian"
    """As in Debian's cron: times in a gap fire once when it ends, repeated times fire once."""
    SKIP = "skip"
    """Times in a gap do not fire; repeated times fire once."""
    TWICE = "twice"
    """Times in a gap fire once when it ends, and repeated times fire both times."""


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """Names the instants of a cron expression from 2000 to 2100. Only `parse` creates it."""

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
        """Return the trigger of an expression in the dialect that cron_dialect.py describes.

        `seconds`: the expression has six fields, the first is the second. Raises InvalidInputError,
        which names the field, if the expression is outside the dialect or does not fire before the
        end of 2100. Parsed expressions are cached.
        """
        return _parse(expression, zone, seconds, dst)

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot strictly after `instant`, or None if there is none through 2100."""
        utc_second = max(START, floor_seconds(instant) + 1)
        if utc_second >= END:
            return None
        searched = found = FAR_PAST
        spans = self._offsets.spans
        for index in range(self._offsets.index_at(utc_second), len(spans)):
            span = spans[index]
            start = self._first_reading_from(span, utc_second)
            # The rule has no reading in [searched, found), so `found` stays valid for these starts.
            if not searched <= start <= found:
                searched, found = start, self._rule.first_from(start)
            if found < span.wall_end:
                return _slot_instant(span, found)
        return None

    def last_until(self, instant: datetime) -> datetime | None:
        """Return the last slot at or before `instant`, or None if there is none since 2000."""
        utc_second = min(END - 1, floor_seconds(instant))
        if utc_second < START:
            return None
        searched = found = FAR_FUTURE
        spans = self._offsets.spans
        for index in range(self._offsets.index_at(utc_second), -1, -1):
            span = spans[index]
            end = min(span.wall_end - 1, utc_second + span.offset)
            # The rule has no reading in (found, searched], so `found` stays valid for these ends.
            if not found <= end <= searched:
                searched, found = end, self._rule.last_until(end)
            if found >= self._first_reading(span):
                return _slot_instant(span, found)
        return None

    def count(self, first: datetime, last: datetime) -> int:
        """Return the number of slots in [first, last], by arithmetic."""
        start = max(START, ceil_seconds(first))
        end = min(END - 1, floor_seconds(last))
        if end < start:
            return 0
        spans = self._offsets.spans
        indexes = range(self._offsets.index_at(start), self._offsets.index_at(end) + 1)
        return sum(self._count_in(spans[index], start, end) for index in indexes)

    def _count_in(self, span: OffsetSpan, start: int, end: int) -> int:
        """Return the number of slots of the span in the seconds [start, end]."""
        first = self._first_reading_from(span, start)
        count = self._rule.count(first, min(span.wall_end, end + 1 + span.offset))
        if first < span.wall_start:  # all skipped readings are one slot, at the gap's end
            count -= max(0, self._rule.count(first, span.wall_start + 1) - 1)
        return count

    def _first_reading_from(self, span: OffsetSpan, utc_second: int) -> int:
        """Return the first reading of the span that can be a slot at or after `utc_second`."""
        first = self._first_reading(span)
        return first if utc_second <= span.start else max(first, utc_second + span.offset)

    def _first_reading(self, span: OffsetSpan) -> int:
        """Return the first reading of the wall clock that can be a slot in the span.

        The earlier of `first_new` and `wall_start` includes the readings that the change skips or
        repeats; the later one excludes them.
        """
        if not self._has_fixed_time:
            return span.wall_start
        match self.dst:
            case Dst.DEBIAN:
                return span.first_new
            case Dst.SKIP:
                return max(span.first_new, span.wall_start)
            case Dst.TWICE:
                return min(span.first_new, span.wall_start)


def _slot_instant(span: OffsetSpan, reading: int) -> datetime:
    """Return the instant of a reading in the span; skipped readings fire when the span starts."""
    return to_instant(max(span.start, reading - span.offset))


@lru_cache(maxsize=4096)
def _parse(expression: str, zone: ZoneInfo, seconds: bool, dst: Dst) -> CronTrigger:
    fields = parse_fields(expression, seconds=seconds)
    trigger = CronTrigger(
        expression=expression,
        zone=zone,
        seconds=seconds,
        dst=dst,
        _rule=WallRule.of(fields),
        _offsets=offsets_of(zone),
        _has_fixed_time=fields.has_fixed_time,
    )
    if trigger.next_after(to_instant(START - 1)) is None:
        raise InvalidInputError(
            "cron expression: it does not fire before the end of 2100; change its day-of-month, "
            "month or day-of-week field"
        )
    return trigger
