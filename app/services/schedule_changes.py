"""From schedules as a body describes them to schedules as they are stored. Pure.

A schedule that the body means (by its id, or because it says the same) keeps its identity, its
count of runs and, where its slots stay the same, its cursor: nothing is lost or added.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from app.errors import ConflictError, InvalidInputError
from app.models.ids import NewId
from app.models.schedule import (
    CronSchedule,
    IntervalSchedule,
    OneTimeSchedule,
    Schedule,
    first_slot,
    next_slot,
)
from app.schemas.jobs import WantedSchedule
from app.schemas.schedules import (
    CronScheduleIn,
    IntervalScheduleIn,
    OneTimeScheduleIn,
    ScheduleIn,
)
from app.schemas.short_forms import ShortForm

_BOUNDS = {"timezone", "start_at", "end_at", "active", "max_runs", "jitter_seconds"}
_NO_SLOT_RULE = {"id", "next_run", "runs", "jitter_seconds"}


def build_schedules(
    wanted: Sequence[WantedSchedule],
    present: Sequence[Schedule],
    *,
    now: datetime,
    new_id: NewId,
) -> tuple[Schedule, ...]:
    """The schedules that `wanted` describes, in place of the `present` ones.

    Cursors are as for an active job. Raises InvalidInputError for what can never fire.
    """
    meant = _match(wanted, present)
    return tuple(
        _build(one, before, now=now, new_id=new_id)
        for one, before in zip(wanted, meant, strict=True)
    )


def place_cursors(
    schedules: Iterable[Schedule], *, active: bool, now: datetime
) -> tuple[Schedule, ...]:
    """Every cursor as when the job is resumed (`active`) or paused at the database's `now`."""
    return tuple(
        s.model_copy(update={"next_run": first_slot(s, now) if active else None}) for s in schedules
    )


def completed(form: ShortForm, present: Sequence[Schedule]) -> list[WantedSchedule]:
    """The one schedule that a short form changes or, in a job without any, adds.

    What the form leaves out stays. Raises ConflictError if the job has several schedules, and
    InvalidInputError if the form is partial and there is nothing to complete it.
    """
    if len(present) > 1:
        raise ConflictError(
            "This job has several schedules; a short form cannot say which is meant. "
            "Send `schedules` instead."
        )
    says_when = form.cron_expression is not None or form.interval_seconds is not None
    if not present:
        if not says_when:
            raise InvalidInputError(
                "This job has no schedule yet; say when it runs by cron_expression, "
                "schedule_config or interval."
            )
        return [WantedSchedule(form.schedule(), "", form.pointers)]
    return [WantedSchedule(_changed(present[0], form), "", form.pointers)]


def _changed(present: Schedule, form: ShortForm) -> ScheduleIn:
    """`present` as a description, with what the form says instead."""
    kept = present.model_dump(include=_BOUNDS) | form.bounds
    match present:
        case CronSchedule() if form.interval_seconds is None:
            return CronScheduleIn.model_construct(
                **kept,
                id=present.id,
                type="cron",
                seconds=present.seconds and form.cron_expression is None,
                dst=present.dst,
                cron_expression=form.cron_expression or present.cron_expression,
            )
        case IntervalSchedule() if form.cron_expression is None:
            return IntervalScheduleIn.model_construct(
                **kept,
                id=present.id,
                type="interval",
                interval_seconds=form.interval_seconds or present.interval_seconds,
            )
        case OneTimeSchedule() if form.cron_expression is None and form.interval_seconds is None:
            return OneTimeScheduleIn.model_construct(
                **kept, id=present.id, type="one_time", run_at=present.run_at
            )
    return form.schedule().model_copy(update=kept)


def _match(wanted: Sequence[WantedSchedule], present: Sequence[Schedule]) -> list[Schedule | None]:
    """For each description the present schedule that it means, if any."""
    left = {schedule.id: schedule for schedule in present}
    meant: list[Schedule | None] = []
    for one in wanted:
        if one.schedule.id is None:
            meant.append(None)
            continue
        schedule = left.pop(one.schedule.id, None)
        if schedule is None:
            raise InvalidInputError.at(
                one.pointer("id"),
                "this job has no such schedule, or it is named twice; leave id out for a new one",
            )
        meant.append(schedule)
    for index, one in enumerate(wanted):
        if one.schedule.id is None:
            same = next((s for s in left.values() if _says_the_same(one.schedule, s)), None)
            if same is not None:
                meant[index] = left.pop(same.id)
    return meant


def _says_the_same(described: ScheduleIn, schedule: Schedule) -> bool:
    if described.type != schedule.type:
        return False
    fields = described.model_dump(exclude={"id", "active", "max_runs", "jitter_seconds"})
    return all(getattr(schedule, name) == value for name, value in fields.items())


def _build(
    wanted: WantedSchedule, before: Schedule | None, *, now: datetime, new_id: NewId
) -> Schedule:
    fields: dict[str, Any] = wanted.schedule.model_dump(exclude={"id"}) | {
        "id": before.id if before else new_id(),
        "runs": before.runs if before else 0,
    }
    schedule: Schedule
    match wanted.schedule:
        case CronScheduleIn():
            schedule = CronSchedule(**fields)
        case IntervalScheduleIn():
            schedule = IntervalSchedule(**fields, anchor_at=_anchor(wanted.schedule, before, now))
        case OneTimeScheduleIn():
            schedule = OneTimeSchedule(**fields)
    if before is not None and _slot_rule(schedule) == _slot_rule(before):
        return schedule.model_copy(update={"next_run": before.next_run})
    _check_future(wanted, schedule, before, now)
    return schedule.model_copy(update={"next_run": first_slot(schedule, now)})


def _anchor(described: IntervalScheduleIn, before: Schedule | None, now: datetime) -> datetime:
    """What the slots are counted from: a new period keeps it, a new `start_at` becomes it."""
    if isinstance(before, IntervalSchedule) and described.start_at in (None, before.start_at):
        return before.anchor_at
    return described.start_at or now


def _slot_rule(schedule: Schedule) -> dict[str, Any]:
    """All that decides which slots there are and whether they run."""
    rule = schedule.model_dump(exclude=_NO_SLOT_RULE)
    if not isinstance(schedule, CronSchedule):
        del rule["timezone"]
    return rule


def _check_future(
    wanted: WantedSchedule, schedule: Schedule, before: Schedule | None, now: datetime
) -> None:
    """Refuse a schedule that has no slot after `now`, naming the field that is to blame."""
    if isinstance(schedule, OneTimeSchedule) and schedule.run_at <= now:
        if not isinstance(before, OneTimeSchedule) or before.run_at != schedule.run_at:
            raise _past(wanted, "run_at")
        return
    if schedule.end_at is not None and schedule.end_at <= now:
        if before is None or before.end_at != schedule.end_at:
            raise _past(wanted, "end_at")
        return
    if schedule.active and next_slot(schedule, now) is None:
        pointer = wanted.pointer(_rule_field(schedule))
        raise InvalidInputError.at(pointer, "no slot lies within the bounds of this schedule")


def _rule_field(schedule: Schedule) -> str:
    match schedule:
        case CronSchedule():
            return "cron_expression"
        case IntervalSchedule():
            return "interval_seconds"
        case OneTimeSchedule():
            return "run_at"


def _past(wanted: WantedSchedule, field: str) -> InvalidInputError:
    return InvalidInputError.at(wanted.pointer(field), "the instant must not be in the past")
