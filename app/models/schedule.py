"""Schedules: each gives a job a trigger, a time zone and bounds. A job contains its schedules."""

from datetime import datetime, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from app.models.record import Instant, Record
from app.triggers import CronTrigger, IntervalTrigger, OneTimeTrigger, Trigger
from app.triggers.cron import Dst

MILLISECOND = timedelta(milliseconds=1)

MAX_INTERVAL_SECONDS = 31_536_000  # 365 days
MAX_RUNS = 1_000_000_000
_MAX_COUNT = 10**15
"""More than a schedule can reach. It leaves room for calculations within 64 bits."""
MAX_JITTER_SECONDS = 86_400
MAX_SCHEDULES = 20  # of one job


class _ScheduleFields(Record):
    """The fields of every schedule."""

    id: str
    timezone: str = "UTC"
    start_at: Instant | None = None
    """No slot before it."""
    end_at: Instant | None = None
    """No slot after it."""
    active: bool = True
    max_runs: Annotated[int, Field(ge=0, le=MAX_RUNS)] | None = None
    jitter_seconds: Annotated[int, Field(ge=0, le=MAX_JITTER_SECONDS)] = 0
    next_run: Instant | None = None
    """The first slot that has no record yet. None if there is no further slot."""
    runs: Annotated[int, Field(ge=0, le=_MAX_COUNT)] = 0
    """How many scheduled executions are recorded; skipped and missed slots do not count."""


class CronSchedule(_ScheduleFields):
    """Slots by a cron expression, read in the schedule's time zone."""

    type: Literal["cron"] = "cron"
    cron_expression: str
    seconds: bool = False
    dst: Dst = Dst.DEBIAN


class IntervalSchedule(_ScheduleFields):
    """Slots every so many seconds from an anchor."""

    type: Literal["interval"] = "interval"
    interval_seconds: Annotated[int, Field(ge=1, le=MAX_INTERVAL_SECONDS)]
    anchor_at: Instant
    """`start_at`, or without it the instant of creation. A new period keeps the anchor."""


class OneTimeSchedule(_ScheduleFields):
    """A single slot."""

    type: Literal["one_time"] = "one_time"
    run_at: Instant


Schedule = Annotated[CronSchedule | IntervalSchedule | OneTimeSchedule, Field(discriminator="type")]


def trigger_of(schedule: Schedule) -> Trigger:
    """Return the rule that names the schedule's slots. Parsed cron expressions are cached.

    Raises InvalidInputError for an invalid expression, and what ZoneInfo raises for its key.
    """
    match schedule:
        case CronSchedule():
            return CronTrigger.parse(
                schedule.cron_expression,
                zone=ZoneInfo(schedule.timezone),
                seconds=schedule.seconds,
                dst=schedule.dst,
            )
        case IntervalSchedule():
            return IntervalTrigger(schedule.anchor_at, timedelta(seconds=schedule.interval_seconds))
        case OneTimeSchedule():
            return OneTimeTrigger(schedule.run_at)


def next_slot(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first slot strictly after `after` within the schedule's bounds, or None.

    It ignores `active` and `max_runs`: these decide whether a slot is executed, not which instants
    are slots.
    """
    begin = find_start(schedule)
    if begin is not None:
        after = max(after, begin - MILLISECOND)
    slot = trigger_of(schedule).next_after(after)
    if slot is None or (schedule.end_at is not None and slot > schedule.end_at):
        return None
    return slot


def find_start(schedule: Schedule) -> datetime | None:
    """Return the first instant that may be a slot; None if there is no lower bound.

    An interval without `start_at` has its first slot one period after its creation.
    """
    if schedule.start_at is None and isinstance(schedule, IntervalSchedule):
        return schedule.anchor_at + MILLISECOND
    return schedule.start_at


def first_slot(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the `next_run` of a schedule that is created, edited or resumed at `now`."""
    if not schedule.active or runs_left(schedule) == 0:
        return None
    return next_slot(schedule, now)


def runs_left(schedule: Schedule) -> int | None:
    """Return how many more scheduled executions `max_runs` allows; None without a limit."""
    return None if schedule.max_runs is None else max(0, schedule.max_runs - schedule.runs)
