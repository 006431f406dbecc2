"""The cron dialect: which expressions are accepted, and what each field of them says.

Five fields (minute, hour, day-of-month, month, day-of-week), or six with seconds first. A field
is a list of items joined by commas: `*`, a value, a range `a-b`, each of them with a step `/n`.

- `n/s` means from n to the end of the field, every s. A range must go up. A step must not be
  greater than the field's highest value: it starts again each hour, month or week, so `*/90`
  would not do what it seems to say.
- Months and days of the week may be written as names of three letters, in any case. Sunday is
  0 or 7; a range that ends on Sunday is written `5-7`.
- `L` in day-of-month is the last day of the month. In day-of-week `FRI#2` is the second Friday
  of the month, and `FRIL` or `LFRI` (also `5L`, `L5`) the last; these do not stand in one list
  with plain days.
- `@yearly @annually @monthly @weekly @daily @midnight @hourly` are accepted; nothing else that
  other crons know is (`?`, `W`, `H`, `R`, a year, `@reboot`).
- If day-of-month or day-of-week begins with `*`, a day must match both fields, else either, as
  in Vixie's and Debian's cron.

This module checks; croniter expands. It is given nothing but numbers in forms that it reads as
Debian's cron does: croniter takes `5-5` for the whole field, and accepts much that is random.
"""

import re
from dataclasses import dataclass

from croniter import croniter

from app.errors import InvalidInputError

MAX_LENGTH = 120
LAST = -1
"""Stands for "the last of the month" where the number of a weekday within its month stands."""

_ALLOWED = re.compile(r"[0-9A-Za-z*,/#@ \t-]*")
_ITEM = re.compile(r"(?:(?P<star>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\w+))?", re.ASCII)
_NTH_WEEKDAY = re.compile(r"(?P<day>\w+)#(?P<nth>\w+)", re.ASCII)
_LAST_WEEKDAY = re.compile(r"L(?P<after>\w+)|(?P<before>\w+)L", re.ASCII)

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
    """Which days an expression names. A weekday is 0 for Sunday to 6 for Saturday."""

    days: frozenset[int]
    last_day: bool
    """Whether the last day of the month is named."""
    months: frozenset[int]
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    """Pairs of a weekday and its number within the month, 1 to 5 or LAST."""
    must_match_both: bool
    """Whether a day must match day-of-month and day-of-week, not just either."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What an expression says. Times are sorted."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    day: DayFields
    has_fixed_time: bool
    """Whether neither the minute nor the hour field begins with `*`."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: str = ""
    """Names of the values from `low` on, of three letters each."""


_SECOND = _Field("second", 0, 59)
_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day-of-month", 1, 31)
_MONTH = _Field("month", 1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
_WEEKDAY = _Field("day-of-week", 0, 7, "SUN MON TUE WED THU FRI SAT")
_FIELDS = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)


def read(expression: str, *, seconds: bool) -> Fields:
    """What the expression says; InvalidInputError for anything outside the dialect."""
    second, *rest = _split(expression, seconds=seconds)
    minute, hour, day, _, weekday = rest
    numbers = " ".join(
        [
            *(_checked(field, text) for field, text in zip(_FIELDS, rest, strict=True)),
            _checked(_SECOND, second),  # croniter's own order: seconds last
        ]
    )
    (minutes, hours, days, months, weekdays, all_seconds), nth = croniter.expand(numbers)
    return Fields(
        seconds=_values(_SECOND, all_seconds),
        minutes=_values(_MINUTE, minutes),
        hours=_values(_HOUR, hours),
        day=DayFields(
            days=frozenset(_values(_DAY, days)),
            last_day="L" in day.split(","),
            months=frozenset(_values(_MONTH, months)),
            weekdays=frozenset() if nth else frozenset(_values(_WEEKDAY, weekdays)),
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
    """The six fields, seconds first, in upper case."""
    if len(expression) > MAX_LENGTH:
        raise _refusal(f"at most {MAX_LENGTH} characters are allowed")
    if not _ALLOWED.fullmatch(expression):
        raise _refusal("only ASCII letters, digits, spaces and * , - / # are allowed")
    fields = expression.upper().split()
    if fields and fields[0].startswith("@"):
        return ["0", *_nickname(fields)]
    if seconds:
        if len(fields) != 6:
            raise _refusal(
                f"with seconds there are 6 fields (second minute hour day-of-month month "
                f"day-of-week), not {len(fields)}"
            )
        return fields
    if len(fields) != 5:
        raise _refusal(
            f"there are 5 fields (minute hour day-of-month month day-of-week), not "
            f"{len(fields)}; seconds, as a sixth and first, must be asked for"
        )
    return ["0", *fields]


def _nickname(fields: list[str]) -> list[str]:
    meaning = _NICKNAMES.get(fields[0].lower()) if len(fields) == 1 else None
    if meaning is None:
        raise _refusal(f"after an @ only these are known: {' '.join(_NICKNAMES)}")
    return meaning.split()


def _checked(field: _Field, text: str) -> str:
    """The field in numbers and in forms that croniter reads as we do."""
    items = text.split(",")
    if field is _WEEKDAY and len({"#" in item or "L" in item for item in items}) > 1:
        raise _refusal("plain days and those with # or L cannot stand in one list", field)
    checked = [_checked_item(field, item) for item in items]
    if field is _DAY:  # croniter takes 31 items, of which one is L, for every day
        checked = [item for item in checked if item != "L"] or ["L"]
    return ",".join(checked)


def _checked_item(field: _Field, item: str) -> str:
    if field is _DAY and item == "L":
        return item
    if field is _WEEKDAY:
        if nth := _NTH_WEEKDAY.fullmatch(item):
            return f"{_number(field, nth['day'])}#{_nth(nth['nth'])}"
        if last := _LAST_WEEKDAY.fullmatch(item):
            return f"L{_number(field, last['after'] or last['before'])}"
    match = _ITEM.fullmatch(item)
    if match is None:
        raise _refusal("each item must be *, a value, a range a-b, or one of these with /n", field)
    step = "" if match["step"] is None else f"/{_step(field, match['step'])}"
    if match["star"]:
        return f"*{step}"
    return _checked_range(field, match, step)


def _checked_range(field: _Field, match: re.Match[str], step: str) -> str:
    low = _number(field, match["low"])
    alone = field.high if step else low
    high = _number(field, match["high"]) if match["high"] else alone
    if low > high:
        hint = "; Sunday at the end is 7" if field is _WEEKDAY else "; write two, joined by a comma"
        raise _refusal(f"a range must go up{hint}", field)
    return str(low) if low == high else f"{low}-{high}{step}"


def _number(field: _Field, text: str) -> int:
    names = field.names.split()
    if text in names:
        return field.low + names.index(text)
    value = _digits(text)
    if value is None or not field.low <= value <= field.high:
        or_name = f", or a name from {names[0]} to {names[-1]}" if names else ""
        raise _refusal(
            f"a value must be a number from {field.low} to {field.high} with at most 2 digits"
            f"{or_name}",
            field,
        )
    return value


def _step(field: _Field, text: str) -> int:
    value = _digits(text)
    if value is None or not 1 <= value <= field.high:
        raise _refusal(f"a step must be a number from 1 to {field.high}", field)
    return value


def _nth(text: str) -> int:
    value = _digits(text)
    if value is None or not 1 <= value <= 5:
        raise _refusal("after a # stands a number from 1 to 5", _WEEKDAY)
    return value


def _digits(text: str) -> int | None:
    return int(text) if len(text) <= 2 and text.isdigit() else None


def _values(field: _Field, expanded: list[int | str]) -> tuple[int, ...]:
    if "*" in expanded:
        return tuple(range(field.low, field.high + 1))
    return tuple(sorted(value for value in expanded if isinstance(value, int)))


def _refusal(problem: str, field: _Field | None = None) -> InvalidInputError:
    place = "cron expression" if field is None else f"cron expression, {field.name} field"
    return InvalidInputError(f"{place}: {problem}")
