"""Cron triggers at changes of the clock: examples, a comparison with `cronsim`, and a comparison
with an oracle that examines UTC minute by minute.

`cronsim` implements Debian's rule for five fields. It differs in three ways, which the generated
expressions avoid: it accepts steps of any size, it accepts lists of plain days and `5L`, and it
reads `5-5/3` as `5/3`.
"""

import functools
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.errors import InvalidInputError
from app.triggers import CronTrigger
from app.triggers.cron import Dst
from tests.unit.triggers.oracle import at, list_values

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)

ZONES = ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago")
FIRST_YEAR, LAST_YEAR = 2026, 2037


def find_changes(key: str, *, first: int, last: int) -> list[datetime]:
    """Return the minutes of UTC at which the offset changes.

    Reads the offset every two days, so it does not find a change that is reversed before the next
    reading.
    """
    zone, found = ZoneInfo(key), []
    instant = datetime(first, 1, 1, tzinfo=UTC)
    offset = instant.astimezone(zone).utcoffset()
    while instant.year <= last:
        following = instant + 2 * DAY
        if following.astimezone(zone).utcoffset() != offset:
            while instant.astimezone(zone).utcoffset() == offset:
                instant += HOUR
            while instant.astimezone(zone).utcoffset() != offset:
                instant -= MINUTE
            found.append(instant + MINUTE)
            offset = following.astimezone(zone).utcoffset()
        instant = following
    return found


CHANGES = [
    (key, change) for key in ZONES for change in find_changes(key, first=FIRST_YEAR, last=LAST_YEAR)
]


def list_slots(trigger: CronTrigger, first: datetime, last: datetime) -> list[datetime]:
    """Return the slots in [first, last], found one by one."""
    found = []
    slot = trigger.next_after(first - MILLISECOND)
    while slot is not None and slot <= last:
        found.append(slot)
        slot = trigger.next_after(slot)
    return found


def format_local(slots: list[datetime], key: str) -> list[str]:
    return [slot.astimezone(ZoneInfo(key)).strftime("%d %H:%M %Z") for slot in slots]


# Examples: New York sets the clock from 2 to 3 on 2026-03-08, and from 2 to 1 on 2026-11-01.


def list_new_york_slots(expression: str, dst: Dst, day: str) -> list[str]:
    trigger = CronTrigger.parse(expression, zone=ZoneInfo("America/New_York"), dst=dst)
    return format_local(
        list_slots(trigger, at(f"{day}T05:00"), at(f"{day}T12:00")), "America/New_York"
    )


@pytest.mark.parametrize(
    ("expression", "dst", "wanted"),
    [
        ("30 2 * * *", Dst.DEBIAN, ["08 03:00 EDT"]),
        ("30 2 * * *", Dst.TWICE, ["08 03:00 EDT"]),
        ("30 2 * * *", Dst.SKIP, []),
        ("0 3 * * *", Dst.SKIP, ["08 03:00 EDT"]),
        ("0 2,3,4 * * *", Dst.DEBIAN, ["08 03:00 EDT", "08 04:00 EDT"]),
        ("0 2,3,4 * * *", Dst.SKIP, ["08 03:00 EDT", "08 04:00 EDT"]),
        ("10,20,30 1-3 8 3 *", Dst.DEBIAN, [
            "08 01:10 EST", "08 01:20 EST", "08 01:30 EST",
            "08 03:00 EDT", "08 03:10 EDT", "08 03:20 EDT", "08 03:30 EDT",
        ]),
        ("*/30 2 * * *", Dst.DEBIAN, []),
        ("*/30 2 * * *", Dst.TWICE, []),
        ("30 */2 * * *", Dst.DEBIAN, ["08 00:30 EST", "08 04:30 EDT", "08 06:30 EDT"]),
        ("0 * 8 3 *", Dst.SKIP, [
            "08 00:00 EST", "08 01:00 EST", "08 03:00 EDT", "08 04:00 EDT", "08 05:00 EDT",
            "08 06:00 EDT", "08 07:00 EDT", "08 08:00 EDT",
        ]),
    ],
)  # fmt: skip
def test_slots_at_a_gap(expression: str, dst: Dst, wanted: list[str]) -> None:
    assert list_new_york_slots(expression, dst, "2026-03-08") == wanted


@pytest.mark.parametrize(
    ("expression", "dst", "wanted"),
    [
        ("30 1 * * *", Dst.DEBIAN, ["01 01:30 EDT"]),
        ("30 1 * * *", Dst.SKIP, ["01 01:30 EDT"]),
        ("30 1 * * *", Dst.TWICE, ["01 01:30 EDT", "01 01:30 EST"]),
        ("0 1,2 * * *", Dst.DEBIAN, ["01 01:00 EDT", "01 02:00 EST"]),
        ("0 1,2 * * *", Dst.TWICE, ["01 01:00 EDT", "01 01:00 EST", "01 02:00 EST"]),
        ("0-59/30 1 * * *", Dst.DEBIAN, ["01 01:00 EDT", "01 01:30 EDT"]),
        ("*/30 1 * * *", Dst.DEBIAN, [
            "01 01:00 EDT", "01 01:30 EDT", "01 01:00 EST", "01 01:30 EST",
        ]),
        ("*/30 1 * * *", Dst.SKIP, [
            "01 01:00 EDT", "01 01:30 EDT", "01 01:00 EST", "01 01:30 EST",
        ]),
        ("15 * 1 11 *", Dst.DEBIAN, [
            "01 01:15 EDT", "01 01:15 EST", "01 02:15 EST", "01 03:15 EST", "01 04:15 EST",
            "01 05:15 EST", "01 06:15 EST",
        ]),
    ],
)  # fmt: skip
def test_slots_at_a_repeated_hour(expression: str, dst: Dst, wanted: list[str]) -> None:
    assert list_new_york_slots(expression, dst, "2026-11-01") == wanted


@pytest.mark.parametrize(
    ("dst", "in_gap", "in_repeated_hour"),
    [(Dst.DEBIAN, 1, 60), (Dst.SKIP, 0, 60), (Dst.TWICE, 1, 120)],
)
def test_with_seconds_the_minute_and_hour_decide_whether_a_time_is_fixed(
    dst: Dst, in_gap: int, in_repeated_hour: int
) -> None:
    zone = ZoneInfo("America/New_York")
    gap = CronTrigger.parse("* 30 2 * * *", zone=zone, seconds=True, dst=dst)
    fold = CronTrigger.parse("* 30 1 * * *", zone=zone, seconds=True, dst=dst)
    assert gap.count(at("2026-03-08T05:00"), at("2026-03-08T12:00")) == in_gap
    assert fold.count(at("2026-11-01T05:00"), at("2026-11-01T12:00")) == in_repeated_hour


def test_a_slot_at_a_skipped_midnight_fires_at_the_end_of_the_gap() -> None:
    trigger = CronTrigger.parse("0 0 * * *", zone=ZoneInfo("America/Santiago"))
    found = list_slots(trigger, at("2026-09-05T00:00"), at("2026-09-07T12:00"))
    assert format_local(found, "America/Santiago") == [
        "05 00:00 -04",
        "06 01:00 -03",
        "07 00:00 -03",
    ]


def test_a_wildcard_minute_fires_in_both_half_hours_after_a_change_of_half_an_hour() -> None:
    trigger = CronTrigger.parse("* 0 * * *", zone=ZoneInfo("Australia/Lord_Howe"))
    change = at("2026-04-04T15:00")  # from 02:00 +11 back to 01:30 +10:30
    assert trigger.next_after(change) == at("2026-04-05T13:30")
    assert trigger.count(change, change + DAY) == 60


def test_slots_of_a_wildcard_minute_do_not_fire_if_the_gap_skips_them() -> None:
    trigger = CronTrigger.parse("* 0 * * *", zone=ZoneInfo("America/Santiago"))
    assert trigger.next_after(at("2026-09-06T03:59")) == at("2026-09-07T03:00")


def test_a_day_that_the_zone_skips_is_one_gap() -> None:
    apia = ZoneInfo("Pacific/Apia")  # went from 29 December 2011 to the 31st
    first, last = at("2011-12-29T12:00"), at("2011-12-31T12:00")
    fixed = CronTrigger.parse("0 9,15 * * *", zone=apia)
    assert format_local(list_slots(fixed, first, last), "Pacific/Apia") == [
        "29 09:00 -10", "29 15:00 -10", "31 00:00 +14", "31 09:00 +14", "31 15:00 +14",
    ]  # fmt: skip
    only_that_day = CronTrigger.parse("0 9 30 12 *", zone=apia)
    assert format_local(list_slots(only_that_day, first, last), "Pacific/Apia") == ["31 00:00 +14"]
    skipped = CronTrigger.parse("0 9 30 12 *", zone=apia, dst=Dst.SKIP)
    assert skipped.count(first, last) == 0


def test_a_yearly_slot_in_the_repeated_hour_is_found_from_within_it() -> None:
    trigger = CronTrigger.parse("*/30 1 1 11 *", zone=ZoneInfo("America/New_York"))
    assert trigger.next_after(at("2026-11-01T05:45")) == at("2026-11-01T06:00")
    assert trigger.last_until(at("2026-11-01T06:15")) == at("2026-11-01T06:00")
    assert trigger.last_until(at("2026-11-01T05:59")) == at("2026-11-01T05:30")


def test_an_expression_that_names_only_skipped_times_is_rejected() -> None:
    zone = ZoneInfo("Europe/Berlin")  # a 29 March that is a Sunday is the day of the change
    trigger = CronTrigger.parse("30 2 29 3 */7", zone=zone)
    assert trigger.next_after(at("2026-01-01T00:00")) == at("2026-03-29T01:00")
    with pytest.raises(InvalidInputError, match="does not fire before the end of 2100"):
        CronTrigger.parse("30 2 29 3 */7", zone=zone, dst=Dst.SKIP)


# The oracle. It reads fields as text, examines UTC by minutes, and uses no code of the application.


class WallClock(NamedTuple):
    """The readings of a wall clock around a change, for each minute of UTC."""

    minutes: list[tuple[datetime, datetime]]
    """Each instant with its reading, as naive datetime with `fold`."""
    skipped_readings: dict[datetime, list[datetime]]
    """For each instant at which the clock is set forward, the readings that it skips."""


@functools.cache
def read_wall_clock(key: str, first: datetime, last: datetime) -> WallClock:
    zone, minutes = ZoneInfo(key), []
    skipped_readings: dict[datetime, list[datetime]] = {}
    expected: datetime | None = None
    instant = first
    while instant <= last:
        reading = instant.astimezone(zone).replace(tzinfo=None)
        minutes.append((instant, reading))
        missing = expected
        while missing is not None and missing < reading.replace(fold=0):
            skipped_readings.setdefault(instant, []).append(missing)
            missing += MINUTE
        expected = reading.replace(fold=0) + MINUTE
        instant += MINUTE
    return WallClock(minutes, skipped_readings)


def is_match(fields: list[str], reading: datetime) -> bool:
    minute, hour, dom, month, dow = fields
    if reading.minute not in list_values(minute, 0, 59) or reading.hour not in list_values(
        hour, 0, 23
    ):
        return False
    by_day = reading.day in list_values(dom, 1, 31)
    by_weekday = reading.isoweekday() % 7 in {n % 7 for n in list_values(dow, 0, 7)}
    both = dom.startswith("*") or dow.startswith("*")
    by_date = (by_day and by_weekday) if both else (by_day or by_weekday)
    return by_date and reading.month in list_values(month, 1, 12)


def has_fixed_time(expression: str) -> bool:
    return not any(field.startswith("*") for field in expression.split()[:2])


def list_oracle_slots(expression: str, dst: Dst, wall_clock: WallClock) -> Iterator[datetime]:
    fields = expression.split()
    is_fixed = has_fixed_time(expression)
    for instant, reading in wall_clock.minutes:
        fires = is_match(fields, reading)
        if is_fixed:
            if reading.fold == 1 and dst is not Dst.TWICE:
                fires = False
            if dst is not Dst.SKIP and instant in wall_clock.skipped_readings:
                fires |= any(
                    is_match(fields, missing) for missing in wall_clock.skipped_readings[instant]
                )
        if fires:
            yield instant


EXPRESSIONS = (
    "* * * * *",
    "*/7 * * * *",
    "0 * * * *",
    "30 */2 * * *",
    "*/20 0-3 * * *",
    "15 1 * * *",
    "0,30 0,1,2,3 * * *",
    "5,15,45 0-4 * * *",
    "0 0 * * *",
    "59 23 * * 6,7",
    "30 1-2 * * 0",
)


@pytest.mark.parametrize("dst", Dst)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_slots_around_every_change_equal_those_of_the_oracle(expression: str, dst: Dst) -> None:
    for key, change in CHANGES:
        trigger = CronTrigger.parse(expression, zone=ZoneInfo(key), dst=dst)
        first, last = change - 3 * HOUR, change + 5 * HOUR
        wanted = list(list_oracle_slots(expression, dst, read_wall_clock(key, first, last)))
        assert list_slots(trigger, first, last) == wanted, (key, change)
        assert trigger.count(first, last) == len(wanted), (key, change)


def generate_fields(low: int, high: int, *, common: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Generate fields that this service, cronsim and the oracle read in the same way."""
    value = st.integers(low, high)
    bounds = st.tuples(value, value).map(sorted)
    wide_bounds = bounds.filter(lambda pair: pair[0] < pair[1])
    item = st.one_of(
        value.map(str),
        bounds.map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.tuples(wide_bounds, st.integers(1, 7)).map(lambda t: f"{t[0][0]}-{t[0][1]}/{t[1]}"),
        st.sampled_from(common or ("*",)),
    )
    return st.lists(item, min_size=1, max_size=3).map(",".join)


EXPRESSIONS_NEAR_CHANGES = st.tuples(
    generate_fields(0, 59, common=("0", "30", "*", "*/10", "*/7")),
    st.one_of(generate_fields(0, 23, common=("*", "*/2", "1", "2")), generate_fields(0, 4)),
    st.one_of(st.just("*"), generate_fields(1, 31, common=("*", "*/2", "1-7"))),
    st.one_of(st.just("*"), generate_fields(1, 12, common=("3", "4", "9-11"))),
    st.one_of(st.just("*"), generate_fields(0, 7, common=("*", "*/2", "0", "6"))),
).map(" ".join)


@pytest.mark.slow
@given(EXPRESSIONS_NEAR_CHANGES, st.sampled_from(CHANGES), st.sampled_from(Dst))
@settings(deadline=None, derandomize=True, max_examples=400, database=None)
def test_the_slots_of_any_expression_around_a_change_equal_those_of_the_oracle(
    expression: str, change: tuple[str, datetime], dst: Dst
) -> None:
    key, instant = change
    first, last = instant - 26 * HOUR, instant + 26 * HOUR
    trigger = CronTrigger.parse(expression, zone=ZoneInfo(key), dst=dst)
    wanted = list(list_oracle_slots(expression, dst, read_wall_clock(key, first, last)))
    assert list_slots(trigger, first, last) == wanted


@given(EXPRESSIONS_NEAR_CHANGES, st.sampled_from(CHANGES), st.integers(-40 * 60, 30 * 60))
@settings(deadline=None, derandomize=True, max_examples=300, database=None)
def test_the_slots_under_debians_rule_equal_those_of_cronsim(
    expression: str, change: tuple[str, datetime], minutes: int
) -> None:
    key, instant = change
    # For slots of a wildcard minute or hour, cronsim loses half an hour after a change of 30
    # minutes, and fires in a gap at midnight. The tests with the oracle cover these cases.
    assume(has_fixed_time(expression) or key in {"America/New_York", "Europe/Berlin"})
    zone = ZoneInfo(key)
    start = instant + minutes * MINUTE
    trigger = CronTrigger.parse(expression, zone=zone)
    wanted: list[datetime] = []
    for found in CronSim(expression, start.astimezone(zone)):
        slot = found.astimezone(UTC)
        # cronsim returns the end of a gap once for each time in the gap. It does not distinguish
        # the first and the second pass of the repeated hour.
        if slot > (wanted[-1] if wanted else start):
            wanted.append(slot)
        if len(wanted) == 10:
            break
    slots = list_slots(trigger, start + MILLISECOND, wanted[-1])
    assert slots == wanted


@given(
    EXPRESSIONS_NEAR_CHANGES,
    st.sampled_from(CHANGES),
    st.sampled_from(Dst),
    st.booleans(),
    st.integers(-36 * 3600_000, 36 * 3600_000),
    st.integers(0, 400 * 3600_000),
)
@settings(deadline=None, derandomize=True, max_examples=400, database=None)
def test_the_next_slot_the_last_slot_and_the_count_are_consistent(
    expression: str,
    change: tuple[str, datetime],
    dst: Dst,
    seconds: bool,
    offset: int,
    length: int,
) -> None:
    key, instant = change
    first = instant + offset * MILLISECOND
    text = f"7,40 {expression}" if seconds else expression
    trigger = CronTrigger.parse(text, zone=ZoneInfo(key), seconds=seconds, dst=dst)

    following, last = trigger.next_after(first), trigger.last_until(first)
    assert following is not None
    assert last is not None
    assert last <= first < following
    assert trigger.next_after(last) == following
    assert trigger.last_until(following) == following
    assert trigger.last_until(following - MILLISECOND) == last
    assert trigger.count(last, following) == 2
    assert trigger.count(last + MILLISECOND, following - MILLISECOND) == 0

    end = first + length * MILLISECOND
    middle = first + (end - first) // 2 // MILLISECOND * MILLISECOND
    parts = trigger.count(first, middle) + trigger.count(middle + MILLISECOND, end)
    assert trigger.count(first, end) == parts
    if parts <= 500:
        slots = list_slots(trigger, first, end)
        assert len(slots) == parts
        assert all(
            trigger.last_until(later - MILLISECOND) == slot for slot, later in pairwise(slots)
        )


# Every zone that changes its offset in these years.


@pytest.fixture(scope="module")
def all_changes() -> dict[str, list[datetime]]:
    """The changes by zone, one zone for each distinct list of changes and offsets."""
    seen, found = set(), {}
    for key in sorted(zoneinfo.available_timezones()):
        changes = find_changes(key, first=FIRST_YEAR, last=LAST_YEAR)
        signature = tuple(
            (change, change.astimezone(ZoneInfo(key)).utcoffset()) for change in changes
        )
        if changes and signature not in seen:
            seen.add(signature)
            found[key] = changes
    return found


def test_the_slots_at_changes_in_every_zone_equal_those_of_the_oracle(
    all_changes: dict[str, list[datetime]],
) -> None:
    assert len(all_changes) > 20
    expressions = [("30 0-4,22-23 * * *", dst) for dst in Dst]
    expressions += [("*/30 * * * *", Dst.DEBIAN), ("0 0 * * *", Dst.DEBIAN)]
    for key, changes in all_changes.items():
        for change in changes[::3]:  # a sample, because all changes take too long
            first, last = change - 2 * HOUR, change + 3 * HOUR
            wall_clock = read_wall_clock(key, first, last)
            for expression, dst in expressions:
                trigger = CronTrigger.parse(expression, zone=ZoneInfo(key), dst=dst)
                wanted = list(list_oracle_slots(expression, dst, wall_clock))
                assert list_slots(trigger, first, last) == wanted, (key, change, expression, dst)
                assert trigger.count(first, last) == len(wanted), (key, change, expression, dst)


@pytest.mark.slow
def test_a_quarter_of_the_zones_can_be_used_from_2000_to_2100() -> None:
    """All zones take too long. The other tests use every zone with changes."""
    first, last = at("2000-01-01T00:00"), at("2100-12-31T23:59")
    every_minute = (last - first) // MINUTE + 1
    for key in sorted(zoneinfo.available_timezones())[::4]:
        trigger = CronTrigger.parse("* * * * *", zone=ZoneInfo(key))
        assert trigger.count(first, last) == every_minute, key
