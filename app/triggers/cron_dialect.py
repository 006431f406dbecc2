"""The cron dialect: which expressions are accepted, and what each of their fields means.

Five fields (minute, hour, day-of-month, month, day-of-week), or six with seconds first. A field
is a list of items joined by commas. Each item is `*`, a value or a range `a-b`, optionally followed
by a step `/n`.

- `n/s` means every s-th value from n to the field's highest value. The first value of a range must
  not be greater than its last. A step must not be greater than the field's highest value: steps
  start again each minute, hour, day, month, year or week, so `*/90` minutes would be misleading.
- Months and days of the week may be written as names of three letters, in any case. Sunday is
  0 or 7; a range that ends on Sunday needs 7, as in `5-7`.
- `L` in day-of-month is the last day of the month. In day-of-week `FRI#2` is the second Friday
  of the month, and `FRIL` or `LFRI` (also `5L`, `L5`) the last; a list with these must not contain
  plain days.
- `@yearly @annually @monthly @weekly @daily @midnight @hourly` are accepted. Other extensions are
  not (`?`, `W`, `H`, `R`, a year, `@reboot`).
- If day-of-month or day-of-week begins with `*`, a day must match both fields. Otherwise it must
  match at least one of them. This is the rule of Vixie's and Debian's cron.

This module checks an expression and then passes it to croniter, which expands it. croniter receives
no names, and no form that it reads differently from Debian's cron. For example, croniter reads
`5-5` as the whole field and accepts random values (`R`).
"""

import re
from dataclasses import dataclass

from croniter import croniter

from app.errors import InvalidInputError

MAX_LENGTH = 120
LAST = -1
"""In place of a number from 1 to 5: the last such weekday of the month."""

_ALLOWED = re.compile(r"[0-9A-Za-z*,/#@ \t-]*")
_ITEM = re.compile(r"(?:(?P<star>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\w+))?", re.ASCII)
_NTH_WEEKDAY = re.compile(r"(?P<day>\w+)#(?P<nth>\w+)", re.ASCII)
_LAST_WEEKDAY = re.compile(r"L(?P<after>\w+)|(?P<before>\w+)L", re.ASCII)

_NEAREST_WEEKDAY = re.compile(r"W[0-9]*|[0-9L]*W")

_YEAR = re.compile(r"[0-9]{4}")
_NO_YEARS = (
    "; a field of years is not supported: bound the schedule by `start_at` and `end_at`, which "
    "entries of `schedules` have"
)
_FIELD_ADVICE = {
    (5, 6): '; for a field of seconds before them, send `"seconds": true` beside the expression',
    (5, 7): _NO_YEARS,
    (6, 7): _NO_YEARS,
}
"""Advice by the number of fields that an expression should have and has."""

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class DayFields:
    """The days that an expression names. A weekday is a number from 0 (Sunday) to 6 (Saturday)."""

    days: frozenset[int]
    last_day: bool
    """Whether the last day of each month is named."""
    months: frozenset[int]
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    """Pairs of a weekday and its number within the month, 1 to 5 or LAST."""
    must_match_both: bool
    """Whether a day must match day-of-month and day-of-week. If not, one of them is enough."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The values of all fields of an expression. Seconds, minutes and hours are sorted."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    day: DayFields
    has_fixed_time: bool
    """Whether neither the minute nor the hour field begins with `*`."""


@dataclass(frozen=True, slots=True)
class CronField:
    name: str
    low: int
    high: int
    names: str = ""
    """The names of the values from `low` on, separated by spaces."""


_SECOND = CronField("second", 0, 59)
MINUTE = CronField("minute", 0, 59)
HOUR = CronField("hour", 0, 23)
DAY = CronField("day-of-month", 1, 31)
MONTH = CronField("month", 1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
_WEEKDAY = CronField("day-of-week", 0, 7, "SUN MON TUE WED THU FRI SAT")
_FIELDS = (MINUTE, HOUR, DAY, MONTH, _WEEKDAY)


def parse_fields(expression: str, *, seconds: bool) -> Fields:
    """Read an expression of five fields, or of six with `seconds`.

    Raises InvalidInputError, which names the field, if the expression is outside the dialect.
    """
    second, *rest = _split(expression, seconds=seconds)
    minute, hour, day, _, weekday = rest
    numbers = " ".join(
        [
            *(_normalise_field(field, text) for field, text in zip(_FIELDS, rest, strict=True)),
            _normalise_field(_SECOND, second),  # croniter expects seconds last
        ]
    )
    (minutes, hours, days, months, weekdays, all_seconds), nth = croniter.expand(numbers)
    return Fields(
        seconds=_list_values(_SECOND, all_seconds),
        minutes=_list_values(MINUTE, minutes),
        hours=_list_values(HOUR, hours),
        day=DayFields(
            days=frozenset(_list_values(DAY, days)),
            last_day="L" in day.split(","),
            months=frozenset(_list_values(MONTH, months)),
            weekdays=frozenset() if nth else frozenset(_list_values(_WEEKDAY, weekdays)),
            nth_weekdays=frozenset(
                (int(number), LAST if n == "l" else int(n))
                for number, ns in nth.items()
                for n in ns
            ),
            must_match_both=day.startswith("*") or weekday.startswith("*"),
        ),
        has_fixed_time=not (minute.startswith("*") or hour.startswith("*")),
    )


def _split(expression: str, *, seconds: bool) -> list[str]:
    """Split into six fields, seconds first, in upper case."""
    if len(expression) > MAX_LENGTH:
        raise _make_error(f"at most {MAX_LENGTH} characters are allowed")
    if "?" in expression:
        raise _make_error("? is not supported; write * in its place")
    if not _ALLOWED.fullmatch(expression):
        raise _make_error("only ASCII letters, digits, spaces and * , - / # are allowed")
    fields = expression.upper().split()
    if fields and fields[0].startswith("@"):
        return ["0", *_expand_nickname(fields)]
    names = "minute hour day-of-month month day-of-week"
    if seconds:
        names = f"second {names}"
    number = len(names.split())
    if len(fields) != number:
        raise _make_error(
            f"{'with seconds ' if seconds else ''}an expression has {number} fields ({names}), not "
            f"{len(fields)}{_advise_on_fields(number, fields)}"
        )
    return fields if seconds else ["0", *fields]


def _advise_on_fields(number: int, fields: list[str]) -> str:
    """Advice on an expression that should have another number of fields."""
    if len(fields) == 6 and _YEAR.fullmatch(fields[-1]):
        return _NO_YEARS
    return _FIELD_ADVICE.get((number, len(fields)), "")


def _expand_nickname(fields: list[str]) -> list[str]:
    if fields[0] == "@EVERY":
        raise _make_error(
            "@every is not supported; a fixed period is an interval: send `interval`, such as 90s "
            "or 1h30m, instead of the expression"
        )
    meaning = _NICKNAMES.get(fields[0].lower()) if len(fields) == 1 else None
    if meaning is None:
        raise _make_error(f"an expression with @ must be one of {' '.join(_NICKNAMES)}")
    return meaning.split()


def _normalise_field(field: CronField, text: str) -> str:
    """Check a field, and return it in numbers and in forms that croniter reads correctly."""
    items = text.split(",")
    if field is _WEEKDAY and len({"#" in item or "L" in item for item in items}) > 1:
        raise _make_error("a list of days with # or L must not contain plain days", field)
    items_for_croniter = [_normalise_item(field, item) for item in items]
    if field is DAY:  # croniter reads 31 items, one of them L, as every day
        items_for_croniter = [item for item in items_for_croniter if item != "L"] or ["L"]
    return ",".join(items_for_croniter)


def _normalise_item(field: CronField, item: str) -> str:
    if field is DAY and item == "L":
        return item
    if field is DAY and _NEAREST_WEEKDAY.fullmatch(item):
        raise _make_error(
            "W, the nearest weekday, is not supported; send days from 1 to 31, or L for the last "
            "day of the month",
            field,
        )
    if field is _WEEKDAY:
        if nth := _NTH_WEEKDAY.fullmatch(item):
            return f"{_read_value(field, nth['day'])}#{_read_nth(nth['nth'])}"
        if last := _LAST_WEEKDAY.fullmatch(item):
            return f"L{_read_value(field, last['after'] or last['before'])}"
    match = _ITEM.fullmatch(item)
    if match is None:
        raise _make_error(
            "each item must be *, a value, a range a-b, or one of these with /n", field
        )
    step = "" if match["step"] is None else f"/{_read_step(field, match['step'])}"
    if match["star"]:
        return f"*{step}"
    return _normalise_range(field, match, step)


def _normalise_range(field: CronField, match: re.Match[str], step: str) -> str:
    low = _read_value(field, match["low"])
    default_high = field.high if step else low
    high = _read_value(field, match["high"]) if match["high"] else default_high
    if low > high:
        advice = "write Sunday as 7" if field is _WEEKDAY else "write two ranges, joined by a comma"
        raise _make_error(f"a range must not begin after its end; {advice}", field)
    return str(low) if low == high else f"{low}-{high}{step}"


def _read_value(field: CronField, text: str) -> int:
    names = field.names.split()
    if text in names:
        return field.low + names.index(text)
    value = _read_digits(text)
    if value is None or not field.low <= value <= field.high:
        or_name = f", or a name from {names[0]} to {names[-1]}" if names else ""
        raise _make_error(
            f"a value must be a number from {field.low} to {field.high} with at most 2 digits"
            f"{or_name}",
            field,
        )
    return value


def _read_step(field: CronField, text: str) -> int:
    value = _read_digits(text)
    if value is None or not 1 <= value <= field.high:
        raise _make_error(f"a step must be a number from 1 to {field.high}", field)
    return value


def _read_nth(text: str) -> int:
    value = _read_digits(text)
    if value is None or not 1 <= value <= 5:
        raise _make_error("the number after # must be from 1 to 5", _WEEKDAY)
    return value


def _read_digits(text: str) -> int | None:
    return int(text) if len(text) <= 2 and text.isdigit() else None


def _list_values(field: CronField, expanded: list[int | str]) -> tuple[int, ...]:
    if "*" in expanded:
        return tuple(range(field.low, field.high + 1))
    return tuple(sorted(value for value in expanded if isinstance(value, int)))


def _make_error(problem: str, field: CronField | None = None) -> InvalidInputError:
    location = "cron expression" if field is None else f"cron expression, {field.name} field"
    return InvalidInputError(f"{location}: {problem}")
