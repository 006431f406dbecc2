"""Reads the schedules of a request body. Pure functions.

A request describes a schedule in the full form, in a short form or as changes to a present
schedule. The functions here turn each of these into a `ScheduleToWrite`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from app.errors import ConflictError, FieldError, InvalidInputError
from app.models.schedule import CronSchedule, IntervalSchedule, OneTimeSchedule, Schedule
from app.schemas.jobs import JobFields
from app.schemas.schedules import (
    CronScheduleIn,
    IntervalScheduleIn,
    OneTimeScheduleIn,
    ScheduleChange,
    ScheduleIn,
)
from app.schemas.short_forms import ShortFormIn

_COMMON_FIELDS = frozenset(
    {"timezone", "start_at", "end_at", "active", "max_runs", "jitter_seconds"}
)
"""The fields that requests may set in a schedule of any type."""
_OWN_FIELDS = {
    "cron": frozenset({"cron_expression", "seconds", "dst"}),
    "interval": frozenset({"interval_seconds"}),
    "one_time": frozenset({"run_at"}),
}
_ANY_SCHEDULE: TypeAdapter[ScheduleIn] = TypeAdapter(ScheduleIn)


NEW_SCHEDULE_WITH_ID = (
    "a new schedule has no id, because the service sets it; omit it, or edit the schedule with this"
    " id by PUT"
)


@dataclass(frozen=True, slots=True)
class ScheduleToWrite:
    """A complete schedule to be written, and where in the body each of its fields is."""

    fields: ScheduleIn
    """All fields. `id` names the schedule of the job to change; None adds a schedule, unless the
    job has an identical one."""
    parent_pointer: str = ""
    """JSON pointer of the object in the body that contains the fields."""
    renamed_pointers: Mapping[str, str] = field(default_factory=dict)
    """JSON pointers of the fields that have another name in the body."""

    def pointer(self, name: str) -> str:
        """JSON pointer of a field, for error messages."""
        return self.renamed_pointers.get(name, f"{self.parent_pointer}/{name}")


def read_new_schedule(body: ScheduleIn) -> ScheduleToWrite:
    """The schedule to add to a job or to preview. Raises InvalidInputError if it has an id."""
    if body.id is not None:
        raise InvalidInputError.at("/id", NEW_SCHEDULE_WITH_ID)
    return ScheduleToWrite(body)


def read_schedule_edit(body: ScheduleChange, present: Schedule) -> ScheduleToWrite:
    """`present` with the changes of the body. Raises InvalidInputError."""
    return ScheduleToWrite(_apply_change(body, present))


def read_job_schedules(
    body: JobFields, present: Sequence[Schedule]
) -> list[ScheduleToWrite] | None:
    """All schedules that the job has after the request; None if the body names no schedule.

    A short form changes the one present schedule, or adds the first one. Raises ConflictError and
    InvalidInputError, see `_complete_short_form`.
    """
    if body.given_short_fields():
        schedule = _complete_short_form(body, present)
        return [ScheduleToWrite(schedule, renamed_pointers=body.short_form_pointers())]
    if "schedules" in body.model_fields_set:
        return [
            ScheduleToWrite(schedule, f"/schedules/{index}")
            for index, schedule in enumerate(body.schedules)
        ]
    return None


def _apply_change(change: ScheduleChange, present: Schedule) -> ScheduleIn:
    """Return `present` with the given fields. Raises InvalidInputError, with pointers."""
    given = change.model_dump(include=change.model_fields_set)
    new_type = given.get("type") or present.type
    kept = _COMMON_FIELDS if new_type != present.type else _COMMON_FIELDS | _OWN_FIELDS[new_type]
    fields = present.model_dump(include=set(kept)) | given | {"type": new_type, "id": present.id}
    try:
        changed: ScheduleIn = _ANY_SCHEDULE.validate_python(fields)
    except ValidationError as error:
        raise _make_field_errors(error) from None
    return changed


def _make_field_errors(error: ValidationError) -> InvalidInputError:
    fields = [
        FieldError(f"/{detail['loc'][-1]}", detail["msg"])
        for detail in error.errors(include_url=False, include_input=False)
    ]
    return InvalidInputError("; ".join(f"{f.pointer}: {f.detail}" for f in fields), fields)


def _complete_short_form(form: ShortFormIn, present: Sequence[Schedule]) -> ScheduleIn:
    """Return the complete schedule that a short form describes, given the job's present schedules.

    A short form changes the fields that it names of the job's only schedule. Another type of
    schedule replaces it, and keeps the fields that all types have. In a job without schedules the
    short form must be complete. Raises ConflictError if the job has several schedules, and
    InvalidInputError if the form is not complete.
    """
    if len(present) > 1:
        raise ConflictError(
            "This job has several schedules, and a short form can change only a single one. "
            "Send `schedules` instead."
        )
    if present:
        return _change_by_short_form(present[0], form)
    return _build_from_short_form(form)


def _build_from_short_form(form: ShortFormIn) -> ScheduleIn:
    bounds = form.short_form_bounds()
    match form.short_form_rule():
        case {"cron_expression": expression}:
            return CronScheduleIn(
                type="cron", seconds=form.seconds or False, cron_expression=expression, **bounds
            )
        case {"interval_seconds": period}:
            return IntervalScheduleIn(type="interval", interval_seconds=period, **bounds)
        case {"run_at": run_at}:
            return OneTimeScheduleIn(type="one_time", run_at=run_at, **bounds)
    raise InvalidInputError(
        "This job has no schedule yet; send cron_expression, schedule_config, interval or run_at."
    )


def _change_by_short_form(present: Schedule, form: ShortFormIn) -> ScheduleIn:
    """Return `present` with the fields of the form.

    The stored fields of `present` are not validated again, so that an edit of another field
    works even if a rule has changed since they were stored.
    """
    kept = present.model_dump(include=set(_COMMON_FIELDS)) | form.short_form_bounds()
    rule = form.short_form_rule()
    if not rule and form.schedule_type not in (None, present.type):
        raise InvalidInputError.at(
            "/schedule_type",
            f"the schedule of this job has the type {present.type}; to change it, send also "
            "cron_expression, schedule_config, interval or run_at",
        )
    if not rule.keys() <= _OWN_FIELDS[present.type]:
        return _build_from_short_form(form).model_copy(update=kept)
    fields = kept | present.model_dump(include=set(_OWN_FIELDS[present.type])) | rule
    match present:
        case CronSchedule():
            fields["seconds"] = present.seconds if not rule else form.seconds or False
            return CronScheduleIn.model_construct(**fields, id=present.id, type="cron")
        case IntervalSchedule():
            return IntervalScheduleIn.model_construct(**fields, id=present.id, type="interval")
        case OneTimeSchedule():
            return OneTimeScheduleIn.model_construct(**fields, id=present.id, type="one_time")
