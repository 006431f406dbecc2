"""The spans of one UTC offset, compared with the offsets that `zoneinfo` reports."""

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from app.triggers import zone_offsets
from app.triggers.wall_time import DAY
from app.triggers.zone_offsets import END, START, ZoneOffsets, to_instant

ZONES = (
    "Africa/Casablanca",  # changes twice a year by the moon
    "America/Caracas",  # changes by half an hour
    "America/Recife",  # the shortest span, 7 days
    "Antarctica/Troll",  # changes by two hours
    "Asia/Tehran",  # changes by the Persian calendar
    "Asia/Tokyo",  # never changes
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Pacific/Apia",  # skips a day
)


def read_offset(zone: ZoneInfo, utc_second: int) -> float:
    offset = to_instant(utc_second).astimezone(zone).utcoffset()
    assert offset is not None
    return offset.total_seconds()


@pytest.mark.parametrize("key", ZONES)
def test_each_span_has_the_offset_of_the_zone_and_ends_where_it_changes(key: str) -> None:
    zone = ZoneInfo(key)
    spans = ZoneOffsets(zone).spans
    assert (spans[0].start, spans[-1].end) == (START, END)
    for span in spans:
        instants = (*range(span.start, span.end, DAY), span.end - 1)
        assert {read_offset(zone, second) for second in instants} == {span.offset}
    for span, following in pairwise(spans):
        assert span.end == following.start
        assert span.offset != following.offset


@pytest.mark.parametrize("key", ["America/New_York", "Africa/Casablanca"])
def test_the_spans_of_a_zone_need_few_lookups(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests name zones that were not used before, and their spans block the event loop."""
    lookups: Counter[str] = Counter()
    look_up = zone_offsets._offset

    def count_lookup(zone: ZoneInfo, utc_second: int) -> int:
        lookups[key] += 1
        return look_up(zone, utc_second)

    monkeypatch.setattr(zone_offsets, "_offset", count_lookup)
    spans = ZoneOffsets(ZoneInfo(key)).spans
    assert len(spans) > 150
    assert lookups[key] < 5 * len(spans)


def test_the_spans_cover_the_years_2000_to_2100() -> None:
    covered = (to_instant(START), to_instant(END))
    assert covered == (datetime(2000, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC))
