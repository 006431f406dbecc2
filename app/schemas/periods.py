"""Periods in requests: seconds, an ISO 8601 duration, or text such as 10m, 1h30m and 7 days.

The grammar is our own because pydantic and pytimeparse2 also read months and years as a number of
days, negative periods and `1:30`.
"""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from app.models.schedule import MAX_INTERVAL_SECONDS
from app.schemas.json_types import reject

SECONDS_OF = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}
MAX_PERIOD_LENGTH = 60
"""Characters of a period as text. Every unit in its longest form fits."""

_ISO_DURATION = re.compile(
    r"P(?:(?P<weeks>\d{1,9})W)?(?:(?P<days>\d{1,9})D)?"
    r"(?:T(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,9})S)?)?",
    re.ASCII,
)
_PLAIN_DURATION = re.compile(
    r"(?:(?P<weeks>\d{1,9}) ?(?:weeks?|w) ?)?(?:(?P<days>\d{1,9}) ?(?:days?|d) ?)?"
    r"(?:(?P<hours>\d{1,9}) ?(?:hours?|hrs?|h) ?)?(?:(?P<minutes>\d{1,9}) ?(?:minutes?|mins?|m) ?)?"
    r"(?:(?P<seconds>\d{1,9}) ?(?:seconds?|secs?|s))?",
    re.ASCII,
)
_ADVICE = (
    "send a whole number of seconds, a text such as 10m, 1h30m or 7 days (weeks, days, hours, "
    "minutes and seconds, the largest unit first), or an ISO 8601 duration in W, D, H, M and S: "
    "PT10M"
)


def _read_period(value: Any) -> int:
    if isinstance(value, str):
        value = read_text(value)
    if isinstance(value, bool) or not isinstance(value, int):
        reject(_ADVICE)
    check_period(value)
    return value


def read_text(text: str) -> int | None:
    """The seconds of a period as text, or None if it has no unit or another form."""
    if len(text) > MAX_PERIOD_LENGTH or text.endswith(" "):
        return None
    match = _ISO_DURATION.fullmatch(text) or _PLAIN_DURATION.fullmatch(text)
    if match is None or not any(match.groupdict().values()):
        return None
    return sum(int(n) * SECONDS_OF[unit] for unit, n in match.groupdict(default="0").items())


def reject_text(value: Any) -> Any:
    """Return `value` if it is no text. The rejection of a text says how to send the period."""
    if isinstance(value, str):
        reject(
            f"send a whole number of seconds, such as {read_text(value) or 600}; a period as a "
            "text, such as 10m, is sent as `interval`"
        )
    return value


def check_period(seconds: int, *below: str) -> None:
    """Reject a period outside the bounds. `below` is the path to the wrong part."""
    if not 1 <= seconds <= MAX_INTERVAL_SECONDS:
        reject(f"a period must be from 1 to {MAX_INTERVAL_SECONDS} seconds (365 days)", *below)


Period = Annotated[
    int,
    BeforeValidator(_read_period),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_INTERVAL_SECONDS},
                {
                    "type": "string",
                    "maxLength": MAX_PERIOD_LENGTH,
                    "examples": ["10m", "1h30m", "7 days", "PT10M"],
                },
            ]
        }
    ),
]
"""A period in whole seconds."""
