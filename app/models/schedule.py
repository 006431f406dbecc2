"""Schedules: what ties a job to a trigger, a time zone and bounds. Embedded in their job."""

from datetime import datetime, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from app.models.record import Instant, Record
from app.triggers import CronTrigger, IntervalTrigger, OneTimeTrigger, Trigger
from app.triggers.cron import Dst

_MILLISECOND = timedelta(milliseconds=1)


class _Bounds(Record):
    """What all schedules have."""

    id: str
    timezone: str = "UTC"
    start_at: Instant | None = None
    """No slot before it."""
    end_at: Instant | None = None
    """No slot after it."""
    active: bool = True
    max_runs: int | None = None
    jitter_seconds: int = 0
    next_run: Instant | None = None
    """The first slot that has no record yet: the cursor. None when there is none to come."""
    runs: int = 0
    """Scheduled runs recorded so far; skipped and missed slots do not count."""


class CronSchedule(_Bounds):
    """Slots by a cron expression, read in the schedule's time zone."""

    type: Literal["cron"] = "cron"
    cron_expression: str
    seconds: bool = False
    dst: Dst = Dst.DEBIAN


class IntervalSchedule(_Bounds):
    """Slots every so many seconds from an anchor."""

    type: Literal["interval"] = "interval"
    interval_seconds: int
    anchor_at: Instant
    """`start_at`, else the instant of creation. A new period keeps it."""


class OneTimeSchedule(_Bounds):
    """A single slot."""

    type: Literal["one_time"] = "one_time"
    run_at: Instant


Schedule = Annotated[CronSchedule | IntervalSchedule | OneTimeSchedule, Field(discriminator="type")]


def trigger_of(schedule: Schedule) -> Trigger:
    """The pure rule behind a schedule. Building a cron trigger again is cheap: it is remembered."""
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
    """The first slot strictly after `after` within the schedule's bounds, or None.

    Neither `active` nor `max_runs` is looked at: they say whether a slot may run, not which
    instants are slots.
    """
    begin = begins_at(schedule)
    if begin is not None:
        after = max(after, begin - _MILLISECOND)
    slot = trigger_of(schedule).next_after(after)
    if slot is None or (schedule.end_at is not None and slot > schedule.end_at):
        return None
    return slot


def begins_at(schedule: Schedule) -> datetime | None:
    """The first instant that may be a slot; None where there is no such bound.

    An interval that counts from its creation has its first slot one period later.
    """
    if schedule.start_at is None and isinstance(schedule, IntervalSchedule):
        return schedule.anchor_at + _MILLISECOND
    return schedule.start_at


def first_slot(schedule: Schedule, now: datetime) -> datetime | None:
    """The cursor of a schedule that is created, edited or resumed at the database's `now`."""
    if not schedule.active or runs_left(schedule) == 0:
        return None
    return next_slot(schedule, now)


def runs_left(schedule: Schedule) -> int | None:
    """How many more scheduled runs `max_runs` allows; None when it sets no limit."""
    return None if schedule.max_runs is None else max(0, schedule.max_runs - schedule.runs)
