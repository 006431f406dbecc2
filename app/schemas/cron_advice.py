"""What to send instead of parts that other programs accept in cron expressions. Pure functions."""

import re

from app.schemas.json_types import time_zones
from app.schemas.periods import read_text
from app.triggers.cron_dialect import MAX_LENGTH

_EVERY = re.compile(r"\s*@every\s+([0-9a-z]{1,20})\s*", re.ASCII | re.IGNORECASE)
_ZONE_BEFORE = re.compile(r"(?:CRON_)?TZ=(.*)", re.ASCII)
_ZONE = re.compile(r"[A-Za-z]+/[A-Za-z][A-Za-z0-9_+/-]*", re.ASCII)
_NO_ZONE = "cron expression: an expression has no time zone; send"


def advise_on_cron(expression: str) -> str | None:
    """What to send instead of an expression that was rejected, if it has a period or a time zone;
    else None."""
    if len(expression) > MAX_LENGTH:
        return None
    if match := _EVERY.fullmatch(expression):
        return _advise_on_every(match[1].lower())
    words = expression.split()
    if not words:
        return None
    before = _ZONE_BEFORE.fullmatch(words[0])
    zone = before[1] if before else words[-1]
    if zone in time_zones():
        return f'{_NO_ZONE} `"timezone": "{zone}"` beside it'
    if before or (len(words) > 5 and _ZONE.fullmatch(zone)):
        return f"{_NO_ZONE} it as `timezone`, such as Europe/Berlin"
    return None


def _advise_on_every(period: str) -> str | None:
    seconds = read_text(period)
    if seconds is None:
        return None
    return (
        f'cron expression: @every is not supported; send `"interval": "{period}"` instead of the '
        f'expression, or in `schedules` `"type": "interval", "interval_seconds": {seconds}`'
    )
