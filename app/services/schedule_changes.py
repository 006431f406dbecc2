"""Pure functions that build the schedules to store from the schedules of a request.

A schedule that is already stored keeps its id and its count of executions. It also keeps its
`next_run` if its slots stay the same, so that no slot is lost or added.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from app.errors import InvalidInputError
from app.models.ids import NewId
from app.models.schedule import (
    CronSchedule,
    IntervalSchedule,
    OneTimeSchedule,
    Schedule,
    first_slot,
    next_slot,
)
from app.schemas.schedules_to_write import ScheduleToWrite

_NOT_IN_SLOT_RULE = {"id", "next_run", "runs", "jitter_seconds"}
"""The fields of a stored schedule that do not decide which slots it has and whether they run."""
_NOT_COMPARED = {"id", "active", "max_runs", "jitter_seconds"}
"""The fields of a request's schedule that may differ from those of the stored schedule that it
changes: an edit of these fields is not another schedule."""


def build_schedules(
    to_write: Sequence[ScheduleToWrite],
    present: Sequence[Schedule],
    *,
    now: datetime,
    new_id: NewId,
) -> tuple[Schedule, ...]:
    """The stored schedules that replace the `present` ones.

    `next_run` is set as if the job were active; `replace_schedules` clears it for a paused job.
    Raises InvalidInputError for an unknown id and for a schedule without future slots.
    """
    matches = _match(to_write, present)
    return tuple(
        _build(wanted, stored, now=now, new_id=new_id)
        for wanted, stored in zip(to_write, matches, strict=True)
    )


def set_next_runs(
    schedules: Iterable[Schedule], *, active: bool, now: datetime
) -> tuple[Schedule, ...]:
    """The schedules with the `next_run` of a job that is resumed (`active`) or paused at the
    database's `now`."""
    return tuple(
        s.model_copy(update={"next_run": first_slot(s, now) if active else None}) for s in schedules
    )


def _match(
    to_write: Sequence[ScheduleToWrite], present: Sequence[Schedule]
) -> list[Schedule | None]:
    """Return for each schedule of the request the stored schedule that it changes, or None.

    A schedule is matched by its id, or, without an id, by identical fields.
    """
    unmatched = {schedule.id: schedule for schedule in present}
    matches: list[Schedule | None] = []
    for wanted in to_write:
        if wanted.fields.id is None:
            matches.append(None)
            continue
        schedule = unmatched.pop(wanted.fields.id, None)
        if schedule is None:
            raise InvalidInputError.at(
                wanted.pointer("id"),
                "this job has no schedule with this id, or the id appears twice; omit the id to "
                "add a schedule",
            )
        matches.append(schedule)
    for index, wanted in enumerate(to_write):
        if wanted.fields.id is None:
            same = next((s for s in unmatched.values() if _is_identical(wanted, s)), None)
            if same is not None:
                matches[index] = unmatched.pop(same.id)
    return matches


def _is_identical(to_write: ScheduleToWrite, schedule: Schedule) -> bool:
    if to_write.fields.type != schedule.type:
        return False
    fields = to_write.fields.model_dump(exclude=_NOT_COMPARED)
    return all(getattr(schedule, name) == value for name, value in fields.items())


def _build(
    to_write: ScheduleToWrite, present: Schedule | None, *, now: datetime, new_id: NewId
) -> Schedule:
    fields: dict[str, Any] = to_write.fields.model_dump(exclude={"id"}) | {
        "id": present.id if present else new_id(),
        "runs": present.runs if present else 0,
    }
    schedule: Schedule
    match to_write.fields.type:
        case "cron":
            schedule = CronSchedule(**fields)
        case "interval":
            anchor_at = _choose_anchor(to_write.fields.start_at, present, now)
            schedule = IntervalSchedule(**fields, anchor_at=anchor_at)
        case "one_time":
            schedule = OneTimeSchedule(**fields)
    if present is not None and _slot_rule(schedule) == _slot_rule(present):
        return schedule.model_copy(update={"next_run": present.next_run})
    _check_future(to_write, schedule, present, now)
    return schedule.model_copy(update={"next_run": first_slot(schedule, now)})


def _choose_anchor(start_at: datetime | None, present: Schedule | None, now: datetime) -> datetime:
    """The instant from which an interval counts. A new period keeps it, a new `start_at` replaces
    it."""
    if isinstance(present, IntervalSchedule) and start_at in (None, present.start_at):
        return present.anchor_at
    return start_at or now


def _slot_rule(schedule: Schedule) -> dict[str, Any]:
    """All fields that decide which slots the schedule has and whether they run."""
    rule = schedule.model_dump(exclude=_NOT_IN_SLOT_RULE)
    if not isinstance(schedule, CronSchedule):
        del rule["timezone"]
    return rule


def _check_future(
    to_write: ScheduleToWrite, schedule: Schedule, present: Schedule | None, now: datetime
) -> None:
    """Raise InvalidInputError, with the responsible field, if no slot is after `now`."""
    if isinstance(schedule, OneTimeSchedule) and schedule.run_at <= now:
        if not isinstance(present, OneTimeSchedule) or present.run_at != schedule.run_at:
            raise _past_instant(to_write, "run_at")
        return
    if schedule.end_at is not None and schedule.end_at <= now:
        if present is None or present.end_at != schedule.end_at:
            raise _past_instant(to_write, "end_at")
        return
    if schedule.active and next_slot(schedule, now) is None:
        pointer = to_write.pointer(_rule_field(schedule))
        raise InvalidInputError.at(pointer, "this schedule has no slot within its bounds")


def _rule_field(schedule: Schedule) -> str:
    match schedule:
        case CronSchedule():
            return "cron_expression"
        case IntervalSchedule():
            return "interval_seconds"
        case OneTimeSchedule():
            return "run_at"


def _past_instant(to_write: ScheduleToWrite, field: str) -> InvalidInputError:
    return InvalidInputError.at(to_write.pointer(field), "the instant must be in the future")
