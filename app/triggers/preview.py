"""Describes a trigger in English: a text, warnings and notes."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cron_descriptor import (
    FormatError,
    MissingFieldError,
    Options,
    WrongArgumentError,
    get_description,
)

from app.triggers import CronTrigger, IntervalTrigger, OneTimeTrigger, Trigger
from app.triggers.cron import Dst

_YEAR = timedelta(days=366)
_STEP = re.compile(r"\*/(\d{1,2})")
_RARE_DAYS = re.compile(r"(29|30|31)(,(29|30|31))*")
_UNITS = ((604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def describe(trigger: Trigger) -> str:
    """Describe in English when the trigger fires."""
    match trigger:
        case CronTrigger():
            return _describe_cron(trigger)
        case IntervalTrigger():
            return f"Every {_describe_period(trigger.period)}"
        case OneTimeTrigger():
            return f"Once, at {trigger.run_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def warnings_of(trigger: Trigger, *, jitter_seconds: int, now: datetime) -> list[str]:
    """Return warnings about effects that the user may not expect. They are not errors.

    Clock changes are examined for one year from `now`.
    """
    if not isinstance(trigger, CronTrigger):
        return []
    found = [*_find_uneven_steps(trigger), *_find_rare_days(trigger)]
    if _is_affected_by_dst(trigger, now):
        found.append(
            f"In the next year a clock change in {trigger.zone.key} skips or repeats one of its "
            f"times; the `dst` rule, here `{trigger.dst}`, decides what happens then."
        )
    if jitter_seconds == 0 and _minute_field(trigger) == "0":
        found.append(
            "It fires at minute 0, as most schedules do; choose another minute or set "
            "`jitter_seconds` to spread the load."
        )
    return found


def notes_on(trigger: Trigger, slot: datetime, zone: ZoneInfo) -> list[str]:
    """Return notes on how a clock change in `zone` affects this slot."""
    local = slot.astimezone(zone)
    notes = []
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        notes.append(f"the {'second' if local.fold else 'first'} time in the repeated hour")
    if isinstance(trigger, CronTrigger) and not _is_named_time(trigger, local):
        notes.append("moved to the end of the gap, because the clock skips its time")
    return notes


def _is_named_time(trigger: CronTrigger, local: datetime) -> bool:
    """Whether the expression names the time that the wall clock shows."""
    wall = local.replace(tzinfo=UTC, fold=0)
    without_changes = CronTrigger.parse(
        trigger.expression, zone=ZoneInfo("UTC"), seconds=trigger.seconds, dst=trigger.dst
    )
    return without_changes.last_until(wall) == wall


def _is_affected_by_dst(trigger: CronTrigger, now: datetime) -> bool:
    counts = {
        CronTrigger.parse(
            trigger.expression, zone=trigger.zone, seconds=trigger.seconds, dst=dst
        ).count(now, now + _YEAR)
        for dst in Dst
    }
    return len(counts) > 1


def _describe_cron(trigger: CronTrigger) -> str:
    expression = trigger.expression.strip()
    if expression.startswith("@"):
        return expression.removeprefix("@").capitalize()
    options = Options()
    options.use_24hour_time_format = True
    try:
        return str(get_description(expression, options))
    except (FormatError, MissingFieldError, WrongArgumentError):
        return f"By the cron expression {expression}"


def _split_fields(trigger: CronTrigger) -> list[str]:
    """Return the fields of the expression, or an empty list for a nickname."""
    return [] if trigger.expression.strip().startswith("@") else trigger.expression.split()


def _minute_field(trigger: CronTrigger) -> str | None:
    fields = _split_fields(trigger)
    return fields[1 if trigger.seconds else 0] if fields else None


def _find_uneven_steps(trigger: CronTrigger) -> list[str]:
    names = ["second", "minute", "hour"] if trigger.seconds else ["minute", "hour"]
    sizes = {"second": 60, "minute": 60, "hour": 24}
    found = []
    for name, field in zip(names, _split_fields(trigger), strict=False):
        step = _STEP.fullmatch(field)
        if step is not None and sizes[name] % int(step[1]):
            last = (sizes[name] - 1) // int(step[1]) * int(step[1])
            left = sizes[name] - last
            found.append(
                f"`{field}` in the {name} field is uneven: after {last} comes 0, "
                f"{left} {name}{'' if left == 1 else 's'} later. Use an interval for even steps."
            )
    return found


def _find_rare_days(trigger: CronTrigger) -> list[str]:
    fields = _split_fields(trigger)
    day = fields[3 if trigger.seconds else 2] if fields else ""
    if _RARE_DAYS.fullmatch(day):
        days = day.replace(",", " or ")
        return [
            f"In months without day {days} no slot is on that day; "
            "`L` is the last day of each month."
        ]
    return []


def _describe_period(period: timedelta) -> str:
    seconds = int(period.total_seconds())
    for size, unit in _UNITS:
        if seconds % size == 0:
            count = seconds // size
            return unit if count == 1 else f"{count} {unit}s"
    return f"{seconds} seconds"
