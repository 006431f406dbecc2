"""What a trigger means, in words and warnings, for people who have not saved it yet. Pure."""

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

_A_YEAR = timedelta(days=366)
_STEP = re.compile(r"\*/(\d{1,2})")
_RARE_DAYS = re.compile(r"(29|30|31)(,(29|30|31))*")
_UNITS = ((604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def describe(trigger: Trigger) -> str:
    """When it fires, in English."""
    match trigger:
        case CronTrigger():
            return _describe_cron(trigger)
        case IntervalTrigger():
            return f"Every {_period(trigger.period)}"
        case OneTimeTrigger():
            return f"Once, at {trigger.run_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def warnings_of(trigger: Trigger, *, jitter_seconds: int, now: datetime) -> list[str]:
    """What may surprise whoever wrote it; nothing here is an error."""
    if not isinstance(trigger, CronTrigger):
        return []
    found = [*_uneven_steps(trigger), *_rare_days(trigger)]
    if _is_touched_by_dst(trigger, now):
        found.append(
            f"In the next year a clock change in {trigger.zone.key} swallows or repeats one of its "
            f"times; what happens then is the `dst` rule, here `{trigger.dst}`."
        )
    if jitter_seconds == 0 and _minute_of(trigger) == "0":
        found.append(
            "It fires at minute 0, when most schedules do; another minute or `jitter_seconds` "
            "spreads the load."
        )
    return found


def notes_on(trigger: Trigger, slot: datetime, zone: ZoneInfo) -> list[str]:
    """What a clock change does to this slot."""
    local = slot.astimezone(zone)
    notes = []
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        notes.append(f"the {'second' if local.fold else 'first'} time in the repeated hour")
    if isinstance(trigger, CronTrigger) and not _is_its_own_time(trigger, local):
        notes.append("moved to the end of the gap that swallows its time")
    return notes


def _is_its_own_time(trigger: CronTrigger, local: datetime) -> bool:
    """Whether the wall clock shows a time that the expression names."""
    wall = local.replace(tzinfo=UTC, fold=0)
    unmoved = CronTrigger.parse(
        trigger.expression, zone=ZoneInfo("UTC"), seconds=trigger.seconds, dst=trigger.dst
    )
    return unmoved.last_until(wall) == wall


def _is_touched_by_dst(trigger: CronTrigger, now: datetime) -> bool:
    counts = {
        CronTrigger.parse(
            trigger.expression, zone=trigger.zone, seconds=trigger.seconds, dst=dst
        ).count(now, now + _A_YEAR)
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
        return f"By the expression {expression}"


def _fields(trigger: CronTrigger) -> list[str]:
    """Seconds first where there are any; none for a nickname."""
    return [] if trigger.expression.strip().startswith("@") else trigger.expression.split()


def _minute_of(trigger: CronTrigger) -> str | None:
    fields = _fields(trigger)
    return fields[1 if trigger.seconds else 0] if fields else None


def _uneven_steps(trigger: CronTrigger) -> list[str]:
    names = ["second", "minute", "hour"] if trigger.seconds else ["minute", "hour"]
    sizes = {"second": 60, "minute": 60, "hour": 24}
    found = []
    for name, field in zip(names, _fields(trigger), strict=False):
        step = _STEP.fullmatch(field)
        if step is not None and sizes[name] % int(step[1]):
            last = (sizes[name] - 1) // int(step[1]) * int(step[1])
            found.append(
                f"`{field}` in the {name} field is uneven: after {last} comes 0, "
                f"{sizes[name] - last} {name}s later. An interval is even."
            )
    return found


def _rare_days(trigger: CronTrigger) -> list[str]:
    fields = _fields(trigger)
    day = fields[3 if trigger.seconds else 2] if fields else ""
    if _RARE_DAYS.fullmatch(day):
        return [f"Months without day {day} are left out; `L` is the last day of each month."]
    return []


def _period(period: timedelta) -> str:
    seconds = int(period.total_seconds())
    for size, unit in _UNITS:
        if seconds % size == 0:
            count = seconds // size
            return unit if count == 1 else f"{count} {unit}s"
    return f"{seconds} seconds"
