"""From request bodies to schedules to be written.

A request describes a schedule in the full form, in a short form or as changes to a present
schedule. The functions here turn each of these into a `ScheduleToWrite`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.models.schedule import Schedule
from app.schemas.jobs import JobFields
from app.schemas.schedules import ScheduleChange, ScheduleIn
from app.schemas.short_forms import complete_short_form


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
    """The schedule to add to a job or to preview."""
    return ScheduleToWrite(body.model_copy(update={"id": None}))


def read_schedule_edit(body: ScheduleChange, present: Schedule) -> ScheduleToWrite:
    """`present` with the changes of the body. Raises InvalidInputError."""
    return ScheduleToWrite(body.apply_to(present))


def read_job_schedules(
    body: JobFields, present: Sequence[Schedule]
) -> list[ScheduleToWrite] | None:
    """All schedules that the job has after the request; None if the body names no schedule.

    A short form changes the one present schedule, or adds the first one. Raises ConflictError and
    InvalidInputError, see `complete_short_form`.
    """
    if body.given_short_fields():
        schedule = complete_short_form(body, present)
        return [ScheduleToWrite(schedule, renamed_pointers=body.short_form_pointers())]
    if "schedules" in body.model_fields_set:
        return [
            ScheduleToWrite(schedule, f"/schedules/{index}")
            for index, schedule in enumerate(body.schedules)
        ]
    return None
