"""The cron dialect and the calendar. Changes of the clock are tested in test_cron_dst.py."""

import calendar
import contextlib
import itertools
import time
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import InvalidInputError
from app.triggers import CronTrigger
from app.triggers.cron import Dst
from tests.unit.triggers.oracle import DETERMINISTIC, at, list_values

ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
SECOND = timedelta(seconds=1)


def list_slots(
    expression: str, after: str = "2026-01-01T00:00:00", n: int = 4, *, seconds: bool = False
) -> list[str]:
    """Return the first slots strictly after an instant, as text."""
    trigger = CronTrigger.parse(expression, zone=ZONE, seconds=seconds)
    found = []
    instant: datetime | None = at(after)
    for _ in range(n):
        assert instant is not None
        instant = trigger.next_after(instant)
        if instant is None:
            break
        found.append(instant.strftime("%Y-%m-%d %H:%M" + (":%S" if seconds else "")))
    return found


def list_days(expression: str, year: int = 2026) -> list[str]:
    """Return the days, as MM-DD, of `0 0 <day> <month> <weekday>` in a year.

    `expression`: the last three fields.
    """
    trigger = CronTrigger.parse(f"0 0 {expression}", zone=ZONE)
    found, instant = [], trigger.next_after(datetime(year, 1, 1, tzinfo=UTC) - SECOND)
    while instant is not None and instant.year == year:
        found.append(instant.strftime("%m-%d"))
        instant = trigger.next_after(instant)
    return found


def parse_error(expression: str, *, seconds: bool = False) -> str:
    with pytest.raises(InvalidInputError) as caught:
        CronTrigger.parse(expression, zone=ZONE, seconds=seconds)
    return caught.value.detail


@pytest.mark.parametrize(
    ("field", "minutes"),
    [
        ("7", [7]),
        ("07", [7]),
        ("1,5,3,5", [1, 3, 5]),
        ("10-13", [10, 11, 12, 13]),
        ("5-5", [5]),  # croniter reads this as the whole field
        ("5-5/3", [5]),
        ("10-20/5", [10, 15, 20]),
        ("10-21/5", [10, 15, 20]),
        ("50/4", [50, 54, 58]),
        ("59/15", [59]),
        ("*/20", [0, 20, 40]),
        ("*/59", [0, 59]),
        ("0-59", list(range(60))),
        ("*", list(range(60))),
        ("5,*", list(range(60))),
        ("3,10-11,*/30", [0, 3, 10, 11, 30]),
    ],
)
def test_a_field_names_its_values_ranges_steps_and_lists(field: str, minutes: list[int]) -> None:
    found = list_slots(f"{field} 0 * * *", after="2025-12-31T23:59:59", n=len(minutes))
    assert found == [f"2026-01-01 00:{minute:02}" for minute in minutes]


def test_hours_are_numbers_from_0_to_23() -> None:
    assert list_slots("0 0,23 * * *", n=3) == [
        "2026-01-01 23:00",
        "2026-01-02 00:00",
        "2026-01-02 23:00",
    ]


def test_months_may_be_names_in_any_case_in_ranges_and_lists() -> None:
    assert list_days("1 jan-MAR,Oct,12 *") == ["01-01", "02-01", "03-01", "10-01", "12-01"]
    assert list_days("1 JAN-DEC/6 *") == ["01-01", "07-01"]
    assert list_days("1 NOV/1 *") == ["11-01", "12-01"]


@pytest.mark.parametrize("field", ["SUN", "sun", "0", "7", "7-7", "0,7", "00", "7/2"])
def test_sunday_is_sun_0_or_7(field: str) -> None:
    assert list_days(f"* 1 {field}") == ["01-04", "01-11", "01-18", "01-25"]


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [(low, high, step) for low in range(8) for high in range(low, 8) for step in range(1, 8)],
)
def test_a_range_of_weekdays_may_end_on_sunday_as_7(low: int, high: int, step: int) -> None:
    wanted = {n % 7 for n in range(low, high + 1, step)}
    found = {int(day[3:]) for day in list_days(f"* 2 {low}-{high}/{step}")}
    assert {(day % 7) for day in range(1, 29) if day in found} == {
        day % 7 for day in range(1, 29) if date(2026, 2, day).isoweekday() % 7 in wanted
    }


def test_weekdays_may_be_names_in_ranges_and_lists() -> None:
    assert list_days("* 2 Mon-wed,SAT")[:5] == ["02-02", "02-03", "02-04", "02-07", "02-09"]
    assert list_days("* 2 FRI-7")[:4] == ["02-01", "02-06", "02-07", "02-08"]
    assert list_days("* 2 5/2")[:3] == ["02-01", "02-06", "02-08"]


def test_l_is_the_last_day_of_each_month() -> None:
    assert list_days("L * *", 2028)[:4] == ["01-31", "02-29", "03-31", "04-30"]
    assert list_days("l 2 *") == ["02-28"]
    assert list_days("1,L 2 *") == ["02-01", "02-28"]
    assert list_days("28,L 2 *") == ["02-28"]


def test_l_with_30_other_days_does_not_mean_every_day() -> None:
    assert "01-01" not in list_days("2-31,L * *")
    assert len(list_days("2-31,L 1 *")) == 30


@pytest.mark.parametrize("field", ["5L", "L5", "FRIL", "LFRI", "fril"])
def test_l_with_a_weekday_is_the_last_of_the_month(field: str) -> None:
    assert list_days(f"* 1-4 {field}") == ["01-30", "02-27", "03-27", "04-24"]


def test_sunday_with_l_may_be_written_as_7() -> None:
    assert list_days("* 1,2 7L") == list_days("* 1,2 SUNL") == ["01-25", "02-22"]


def test_a_number_after_a_weekday_is_its_position_in_the_month() -> None:
    assert list_days("* 1-3 FRI#2") == list_days("* 1-3 5#2") == ["01-09", "02-13", "03-13"]
    assert list_days("* * 1#5") == ["03-30", "06-29", "08-31", "11-30"]
    assert list_days("* 1 7#1,SUN#3,5L") == ["01-04", "01-18", "01-30"]
    assert list_days("* 1 0#1,1#1,2#1,3#1,4#1,5#1,6#1") == [f"01-{day:02}" for day in range(1, 8)]


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        (
            "13 * FRI",
            ["01-02", "01-09", "01-13", "01-16"],
        ),  # neither begins with *: one match is enough
        ("13 * *", ["01-13", "02-13", "03-13", "04-13"]),
        ("* * FRI", ["01-02", "01-09", "01-16", "01-23"]),
        ("*/2 * FRI", ["01-09", "01-23", "02-13", "02-27"]),  # begins with *: both must match
        ("13 * */5", ["02-13", "03-13", "09-13", "11-13"]),
        ("*,5 * MON", ["01-05", "01-12", "01-19", "01-26"]),
        ("1-31 * FRI", ["01-01", "01-02", "01-03", "01-04"]),
        ("13 * 0-6", ["01-01", "01-02", "01-03", "01-04"]),
        ("5,* * MON", ["01-01", "01-02", "01-03", "01-04"]),  # has a * but does not begin with it
        ("L * FRI#1", ["01-02", "01-31", "02-06", "02-28"]),
        ("1-7 * */7", ["01-04", "02-01", "03-01", "04-05"]),
    ],
)
def test_both_day_fields_must_match_only_if_one_of_them_begins_with_a_star(
    fields: str, first: list[str]
) -> None:
    assert list_days(fields)[:4] == first


@pytest.mark.parametrize(
    ("nickname", "meaning"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        (" @Hourly ", "0 * * * *"),
    ],
)
@pytest.mark.parametrize("seconds", [False, True])
def test_a_nickname_has_the_slots_of_its_expression(
    nickname: str, meaning: str, seconds: bool
) -> None:
    found = list_slots(nickname, seconds=seconds)
    assert found == list_slots(f"0 {meaning}" if seconds else meaning, seconds=seconds)


def test_with_seconds_the_first_of_six_fields_is_the_second() -> None:
    assert list_slots("15,45 30 9 * * *", n=3, seconds=True) == [
        "2026-01-01 09:30:15",
        "2026-01-01 09:30:45",
        "2026-01-02 09:30:15",
    ]
    assert list_slots("*/30 * * * * *", n=2, seconds=True) == [
        "2026-01-01 00:00:30",
        "2026-01-01 00:01:00",
    ]


def test_spaces_and_tabs_around_and_between_fields_have_no_effect() -> None:
    assert list_slots(" \t5  4\t*  * *\t ") == list_slots("5 4 * * *")


def test_an_expression_of_120_characters_is_accepted() -> None:
    expression = ("0," * 60)[:111] + "1 0 * * *"
    assert len(expression) == 120
    assert list_slots(expression, n=2) == ["2026-01-01 00:01", "2026-01-02 00:00"]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "an expression has 5 fields (minute hour day-of-month month day-of-week), not 0"),
        ("  ", "not 0"),
        ("* * * *", "not 4"),
        ("* * * * * *", 'not 6; for a field of seconds before them, send `"seconds": true` beside'),
        ("* * * * * * 2026", "not 7; a field of years is not supported"),
        (
            "0 0 1 1 * 2027",
            "not 6; a field of years is not supported: bound the schedule by `start_",
        ),
        ("0 0 0 1 1 * 2026", "not 7; a field of years is not supported"),
        ("*" * 121, "at most 120 characters"),
        ("1" * 5000 + " * * * *", "at most 120 characters"),
        (",".join(["1"] * 200_000) + " * * * *", "at most 120 characters"),
        ("0 0 * * *\n", "only ASCII letters, digits, spaces"),
        ("0 0\n* * *", "only ASCII"),
        ("0 0 * * *\r", "only ASCII"),
        ("0\u00a00 * * *", "only ASCII"),
        ("\u0663 * * * *", "only ASCII"),
        ("\uff15 * * * *", "only ASCII"),
        ("\u00b2 * * * *", "only ASCII"),
        ("0 0 * * m\u00f6n", "only ASCII"),
        ("\ud800 * * * *", "only ASCII"),
        ("0\x00 0 * * *", "only ASCII"),
        ("0 0 ? * *", "? is not supported; write * in its place"),
        ("0 0 * * ?", "? is not supported; write * in its place"),
        ("H(0-5) * * * *", "only ASCII"),
        (
            "@reboot",
            "an expression with @ must be one of @yearly @annually @monthly @weekly @daily",
        ),
        ("@every 5m", "a fixed period is an interval: send `interval`, such as 90s"),
        ("@Every 1h30m", "@every is not supported"),
        ("@", "an expression with @"),
        ("@daily 0", "an expression with @"),
        ("@hourly @daily * * *", "an expression with @"),
        ("0 @daily * * *", "hour field: each item must be *, a value, a range a-b"),
        ("R * * * *", "minute field: a value must be a number from 0 to 59 with at most 2 digits"),
        ("H * * * *", "minute field: a value must be"),
        ("H/15 * * * *", "minute field: a value must be"),
        ("60 * * * *", "minute field: a value must be a number from 0 to 59"),
        ("007 * * * *", "minute field: a value must be"),
        ("-1 * * * *", "minute field: each item must be"),
        ("1- * * * *", "minute field: each item must be"),
        ("1-2-3 * * * *", "minute field: each item must be"),
        ("*-5 * * * *", "minute field: each item must be"),
        ("** * * * *", "minute field: each item must be"),
        ("*5 * * * *", "minute field: each item must be"),
        ("1,,2 * * * *", "minute field: each item must be"),
        (", * * * *", "minute field: each item must be"),
        ("1, * * * *", "minute field: each item must be"),
        ("/5 * * * *", "minute field: each item must be"),
        ("*/ * * * *", "minute field: each item must be"),
        ("*/5/2 * * * *", "minute field: each item must be"),
        ("*/0 * * * *", "minute field: a step must be a number from 1 to 59"),
        ("*/60 * * * *", "minute field: a step must be a number from 1 to 59"),
        ("*/-5 * * * *", "minute field: each item must be"),
        ("*/x * * * *", "minute field: a step must be"),
        (
            "30-10 * * * *",
            "minute field: a range must not begin after its end; write two ranges, joined",
        ),
        ("L * * * *", "minute field: a value must be"),
        ("1#2 * * * *", "minute field: each item must be"),
        ("MON * * * *", "minute field: a value must be"),
        ("0 24 * * *", "hour field: a value must be a number from 0 to 23"),
        ("0 22-5 * * *", "hour field: a range must not begin after its end"),
        ("0 */24 * * *", "hour field: a step must be a number from 1 to 23"),
        ("0 0 0 * *", "day-of-month field: a value must be a number from 1 to 31"),
        ("0 0 32 * *", "day-of-month field: a value must be a number from 1 to 31"),
        ("0 0 LW * *", "day-of-month field: W, the nearest weekday, is not supported; send days"),
        ("0 0 15W * *", "day-of-month field: W, the nearest weekday, is not supported; send days"),
        ("0 0 W15 * *", "day-of-month field: W, the nearest weekday, is not supported; send days"),
        ("0 0 L-3 * *", "day-of-month field: a value must be"),
        ("0 0 1-L * *", "day-of-month field: a value must be"),
        ("0 0 L/2 * *", "day-of-month field: a value must be"),
        ("0 0 L5 * *", "day-of-month field: a value must be"),
        ("0 0 MON * *", "day-of-month field: a value must be"),
        ("0 0 * 0 *", "month field: a value must be a number from 1 to 12"),
        ("0 0 * 13 *", "month field: a value must be a number from 1 to 12"),
        ("0 0 * JANUARY *", "or a name from JAN to DEC"),
        ("0 0 * MON *", "month field: a value must be"),
        ("0 0 * NOV-FEB *", "month field: a range must not begin after its end"),
        ("0 0 * L *", "month field: a value must be"),
        ("0 0 * * 8", "day-of-week field: a value must be a number from 0 to 7"),
        ("0 0 * * MONDAY", "or a name from SUN to SAT"),
        ("0 0 * * JAN", "day-of-week field: a value must be"),
        ("0 0 * * L", "day-of-week field: a value must be"),
        ("0 0 * * LL", "day-of-week field: a value must be"),
        ("0 0 * * 8L", "day-of-week field: a value must be"),
        ("0 0 * * L5L", "day-of-week field: a value must be"),
        (
            "0 0 * * SAT-SUN",
            "day-of-week field: a range must not begin after its end; write Sunday as 7",
        ),
        ("0 0 * * FRI#0", "day-of-week field: the number after # must be from 1 to 5"),
        ("0 0 * * FRI#6", "day-of-week field: the number after # must be from 1 to 5"),
        ("0 0 * * FRI#L", "day-of-week field: the number after # must be from 1 to 5"),
        ("0 0 * * FRI#", "day-of-week field: each item must be"),
        ("0 0 * * #1", "day-of-week field: each item must be"),
        ("0 0 * * *#1", "day-of-week field: each item must be"),
        ("0 0 * * MON-FRI#1", "day-of-week field: each item must be"),
        ("0 0 * * FRI#1/2", "day-of-week field: each item must be"),
        ("0 0 * * MON,FRI#1", "a list of days with # or L must not contain plain days"),
        ("0 0 * * *,5L", "a list of days with # or L must not contain plain days"),
        ("0 0 30 2 *", "it does not fire before the end of 2100"),
        ("0 0 30,31 FEB *", "it does not fire before the end of 2100"),
        ("0 0 31 4,6,9,11 *", "it does not fire before the end of 2100"),
        (
            "0 0 */30 2 0#5",
            "it does not fire before the end of 2100",
        ),  # the 1st is never a fifth Sunday
    ],
)
def test_an_invalid_expression_is_rejected_with_the_reason(expression: str, message: str) -> None:
    assert message in parse_error(expression)


@pytest.mark.parametrize("expression", ["* * * * *", "* * * * * * *", "* * * * * * 2026"])
def test_with_seconds_there_must_be_six_fields(expression: str) -> None:
    assert "with seconds an expression has 6 fields (second minute hour" in parse_error(
        expression, seconds=True
    )


def test_with_seconds_an_error_names_the_correct_field() -> None:
    assert "second field: a value must be" in parse_error("60 * * * * *", seconds=True)
    assert "minute field: a value must be" in parse_error("0 60 * * * *", seconds=True)


def test_an_error_does_not_contain_the_expression() -> None:
    assert "SECRET" not in parse_error("SECRET * * * *").upper()


@given(st.text(alphabet="0123456789*,-/#L @?MONJAsunRHW\t\n", max_size=40))
@DETERMINISTIC
def test_any_text_is_accepted_or_raises_invalid_input(text: str) -> None:
    for seconds in (False, True):
        try:
            trigger = CronTrigger.parse(text, zone=ZONE, seconds=seconds)
        except InvalidInputError:
            continue
        assert trigger.next_after(at("2000-01-01T00:00:00")) is not None


@pytest.mark.parametrize(
    "expression",
    [
        ",".join(["1"] * 200_000) + " * * * *",
        "0 0 30 2 *",
        "0 0 31 2 */7",
        ",".join(["*"] * 56) + " * * * *",
        "0 0 * 2 " + ",".join(["1#5"] * 27),
        "30 2 29 3 */7",
    ],
)
def test_parsing_takes_less_than_50_ms(expression: str) -> None:
    took = []
    for zone in ("Asia/Gaza", "Africa/Casablanca", "Europe/London"):  # not cached yet
        started = time.process_time()
        with contextlib.suppress(InvalidInputError):
            CronTrigger.parse(expression, zone=ZoneInfo(zone), dst=Dst.SKIP)
        took.append(time.process_time() - started)
    assert min(took) < 0.05


def test_parsed_triggers_are_cached_and_compared_by_their_arguments() -> None:
    first = CronTrigger.parse("*/5 * * * *", zone=ZONE)
    assert CronTrigger.parse("*/5 * * * *", zone=ZONE) is first
    assert CronTrigger.parse("*/5 * * * *", zone=BERLIN) != first
    assert CronTrigger.parse("*/5 * * * *", zone=ZONE, dst=Dst.SKIP) != first


def test_the_next_slot_is_after_the_instant_and_the_last_at_or_before_it() -> None:
    trigger = CronTrigger.parse("0 9 * * MON", zone=BERLIN)
    slot = at("2026-06-08T07:00:00")
    millisecond = timedelta(milliseconds=1)
    assert trigger.next_after(slot - millisecond) == slot
    assert trigger.next_after(slot) == slot + timedelta(days=7)
    assert trigger.last_until(slot) == slot
    assert trigger.last_until(slot + millisecond) == slot
    assert trigger.last_until(slot - millisecond) == slot - timedelta(days=7)
    assert trigger.count(slot, slot) == 1
    assert trigger.count(slot + millisecond, slot + timedelta(days=7)) == 1
    assert trigger.count(slot + millisecond, slot + timedelta(days=7) - millisecond) == 0
    assert trigger.count(slot, slot - millisecond) == 0


def test_slots_are_in_utc_for_instants_of_any_zone() -> None:
    trigger = CronTrigger.parse("0 9 * * *", zone=BERLIN)
    found = trigger.next_after(
        datetime(2026, 6, 8, 1, tzinfo=timezone(timedelta(hours=-5)))  # 06:00 UTC
    )
    assert found == at("2026-06-08T07:00:00")
    assert found is not None
    assert found.tzinfo is UTC


def test_a_slot_may_be_decades_away() -> None:
    assert list_slots("0 0 29 2 */7", after="2032-03-01T00:00:00", n=2) == [
        "2060-02-29 00:00",
        "2088-02-29 00:00",
    ]
    trigger = CronTrigger.parse("0 0 29 2 */7", zone=BERLIN)
    assert trigger.last_until(at("2032-02-28T00:00:00")) == at("2004-02-28T23:00:00")
    assert trigger.count(at("2000-01-01T00:00:00"), at("2100-12-31T00:00:00")) == 4


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_all_slots_are_in_the_years_2000_to_2100(zone: str) -> None:
    trigger = CronTrigger.parse("* * * * *", zone=ZoneInfo(zone))
    first, last = at("2000-01-01T00:00:00"), at("2100-12-31T23:59:00")
    earliest = datetime.min.replace(tzinfo=UTC)
    latest = datetime.max.replace(tzinfo=UTC)
    assert trigger.next_after(earliest) == first
    assert trigger.last_until(earliest) is None
    assert trigger.last_until(first - SECOND) is None
    assert trigger.last_until(first) == first
    assert trigger.last_until(latest) == last
    assert trigger.next_after(last) is None
    assert trigger.next_after(latest) is None
    assert trigger.count(earliest, latest) == trigger.count(first, last)
    assert trigger.count(latest, earliest) == 0


def test_ten_years_of_seconds_are_counted_by_arithmetic() -> None:
    trigger = CronTrigger.parse("* * * * * *", zone=BERLIN, seconds=True)
    first, last = at("2026-01-01T00:00:00"), at("2035-12-31T23:59:59")
    started = time.process_time()
    assert trigger.count(first, last) == (last - first) // SECOND + 1
    assert time.process_time() - started < 0.05


def generate_fields(low: int, high: int) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    step = st.integers(1, min(high, 13))
    item = st.one_of(
        st.just("*"),
        value.map(str),
        st.tuples(value, value).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.tuples(value, value, step).map(lambda t: f"{min(t[:2])}-{max(t[:2])}/{t[2]}"),
        step.map(lambda n: f"*/{n}"),
        st.tuples(value, step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    )
    return st.lists(item, min_size=1, max_size=3).map(",".join)


WEEKDAYS = st.one_of(
    generate_fields(0, 7),
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 7), st.integers(1, 5)).map(lambda p: f"{p[0]}#{p[1]}"),
            st.integers(0, 7).map(lambda n: f"L{n}"),
        ),
        min_size=1,
        max_size=3,
    ).map(",".join),
)
DAY_FIELDS = st.tuples(
    st.one_of(generate_fields(1, 31), st.just("L"), st.just("3,L")),
    generate_fields(1, 12),
    WEEKDAYS,
)


def is_named_day(day: date, dom: str, month: str, dow: str) -> bool:
    length = calendar.monthrange(day.year, day.month)[1]
    by_day = any(
        day.day == length if item == "L" else day.day in list_values(item, 1, 31)
        for item in dom.split(",")
    )
    by_weekday = False
    for item in dow.split(","):
        plain = item.partition("#")[0].lstrip("L")
        if day.isoweekday() not in {n or 7 for n in list_values(plain, 0, 7)}:
            continue
        if "#" in item:
            by_weekday |= (day.day - 1) // 7 + 1 == int(item.partition("#")[2])
        elif item.startswith("L"):
            by_weekday |= day.day > length - 7
        else:
            by_weekday = True
    both = dom[0] == "*" or dow[0] == "*"
    fits = (by_day and by_weekday) if both else (by_day or by_weekday)
    return fits and day.month in list_values(month, 1, 12)


@given(DAY_FIELDS, st.integers(2000, 2100))
@example(("2-31,L", "*", "*"), 2026)
@example(("*", "*", "0#1,1#1,2#1,3#1,4#1,5#1,6#1"), 2026)
@DETERMINISTIC
def test_the_days_equal_those_of_the_oracle(fields: tuple[str, str, str], year: int) -> None:
    new_year = date(year, 1, 1)
    calendar_days = (new_year + timedelta(days=n) for n in range(365 + calendar.isleap(year)))
    wanted = [day.strftime("%m-%d") for day in calendar_days if is_named_day(day, *fields)]
    try:
        found = list_days(" ".join(fields), year)
    except InvalidInputError:
        found = []
    assert found == wanted


@pytest.mark.slow
@given(generate_fields(0, 59), generate_fields(0, 59), generate_fields(0, 23))
@DETERMINISTIC
def test_the_times_of_a_day_equal_those_of_the_oracle(second: str, minute: str, hour: str) -> None:
    trigger = CronTrigger.parse(f"{second} {minute} {hour} * * *", zone=ZONE, seconds=True)
    start = at("2026-05-05T00:00:00")
    times = itertools.product(
        sorted(list_values(hour, 0, 23)),
        sorted(list_values(minute, 0, 59)),
        sorted(list_values(second, 0, 59)),
    )
    wanted = [start + timedelta(hours=h, minutes=m, seconds=s) for h, m, s in times]
    assert trigger.count(start, start + timedelta(days=1) - SECOND) == len(wanted)
    found, instant = [], trigger.next_after(start - SECOND)
    for _ in range(min(len(wanted), 100)):
        assert instant is not None
        found.append(instant)
        instant = trigger.next_after(instant)
    assert found == wanted[:100]
    assert trigger.last_until(start + timedelta(days=1) - SECOND) == wanted[-1]
