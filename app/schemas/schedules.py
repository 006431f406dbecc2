"""Schedules in requests, in their full form, and in responses."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from app.models.schedule import (
    MAX_INTERVAL_SECONDS,
    MAX_JITTER_SECONDS,
    MAX_RUNS,
    CronSchedule,
    IntervalSchedule,
    OneTimeSchedule,
    Schedule,
)
from app.schemas.json_types import (
    EditModel,
    Flag,
    InputInstant,
    InputModel,
    Integer,
    OutputModel,
    Text,
    TimeZone,
    reject,
    without_defaults,
)
from app.schemas.periods import reject_text
from app.schemas.schedule_entries import (
    ScheduleType,
    check_cron,
    complete_entry,
    expand_short_entry,
)
from app.triggers.cron import Dst

_UNSET_INSTANT = datetime.min.replace(tzinfo=UTC)

_ONLY_IN_RESPONSES = frozenset({"job_id", "anchor_at", "next_run", "runs"})

IntervalSeconds = Annotated[
    Integer, Field(ge=1, le=MAX_INTERVAL_SECONDS), BeforeValidator(reject_text)
]
MaxRuns = Annotated[Integer, Field(ge=1, le=MAX_RUNS)]
JitterSeconds = Annotated[Integer, Field(ge=0, le=MAX_JITTER_SECONDS)]


class _ScheduleIn(InputModel):
    """The fields of every schedule."""

    output_fields = _ONLY_IN_RESPONSES

    id: Text | None = Field(
        default=None,
        description="In an edit: the id of the schedule of this job to change. The schedule keeps "
        "its identity.",
    )
    timezone: TimeZone = Field(
        default="UTC", description="IANA name. The cron expression is read in this time zone."
    )
    start_at: InputInstant | None = Field(
        default=None, description="The schedule has no slot before this instant."
    )
    end_at: InputInstant | None = Field(
        default=None, description="The schedule has no slot after this instant."
    )
    active: Flag = True
    max_runs: MaxRuns | None = Field(
        default=None, description="The total number of scheduled executions; null: no limit."
    )
    jitter_seconds: JitterSeconds = Field(
        default=0, description="Executions start up to this many seconds after their slot."
    )

    @field_validator("end_at")
    @classmethod
    def _check_end(cls, end_at: datetime | None, info: ValidationInfo) -> datetime | None:
        start_at = info.data.get("start_at")
        if end_at is not None and start_at is not None and end_at < start_at:
            reject("end_at must not be before start_at")
        return end_at


class CronScheduleIn(_ScheduleIn):
    """Slots by a cron expression."""

    type: Literal["cron"]
    seconds: Flag = Field(
        default=False, description="Whether the expression starts with a sixth field, seconds."
    )
    dst: Dst = Field(
        default=Dst.DEBIAN,
        description="What happens to a fixed time when the clock changes: `debian` fires once, "
        "`skip` does not fire in the gap, `twice` fires both times in the repeated hour.",
    )
    cron_expression: Text = Field(examples=["0 9 * * MON"])

    @field_validator("cron_expression")
    @classmethod
    def _check_expression(cls, expression: str, info: ValidationInfo) -> str:
        return check_cron(expression, info.data)


class IntervalScheduleIn(_ScheduleIn):
    """Slots at a fixed period, counted from `start_at`, else from the creation."""

    type: Literal["interval"]
    interval_seconds: IntervalSeconds = Field(examples=[600])


class OneTimeScheduleIn(_ScheduleIn):
    """A single slot."""

    type: Literal["one_time"]
    run_at: InputInstant


# `Field(discriminator=…)` would be applied outside the validator where FastAPI adds its `Body`.
ScheduleIn = Annotated[
    CronScheduleIn | IntervalScheduleIn | OneTimeScheduleIn,
    Discriminator("type"),
    BeforeValidator(complete_entry),
]


class _ScheduleEdit(EditModel):
    """What the schedules of an edited job have in common."""

    ignored_fields = _ONLY_IN_RESPONSES


class CronScheduleEdit(CronScheduleIn, _ScheduleEdit):
    """Slots by a cron expression."""


class IntervalScheduleEdit(IntervalScheduleIn, _ScheduleEdit):
    """Slots at a fixed period, counted from `start_at`, else from the creation."""


class OneTimeScheduleEdit(OneTimeScheduleIn, _ScheduleEdit):
    """A single slot."""


ScheduleEdit = Annotated[
    CronScheduleEdit | IntervalScheduleEdit | OneTimeScheduleEdit,
    Discriminator("type"),
    BeforeValidator(complete_entry),
]


class ScheduleChange(EditModel):
    """The fields to change; the others stay. Another `type` requires that type's fields."""

    ignored_fields = _ONLY_IN_RESPONSES | {"id"}

    # The defaults are never used: only given fields are read (`model_fields_set`).
    model_config = ConfigDict(json_schema_extra=without_defaults)

    _short = model_validator(mode="before")(expand_short_entry)

    type: ScheduleType = Field(default="cron", description="Without it the type stays.")
    timezone: TimeZone = "UTC"
    start_at: InputInstant | None = None
    end_at: InputInstant | None = None
    active: Flag = True
    max_runs: MaxRuns | None = None
    jitter_seconds: JitterSeconds = 0
    cron_expression: Text = ""
    seconds: Flag = False
    dst: Dst = Dst.DEBIAN
    interval_seconds: IntervalSeconds = 1
    run_at: InputInstant = _UNSET_INSTANT


class _ScheduleOut(OutputModel):
    """The field that a schedule in a response has beside the stored ones."""

    job_id: str


class CronScheduleOut(CronSchedule, _ScheduleOut):
    """A cron schedule and the id of its job."""


class IntervalScheduleOut(IntervalSchedule, _ScheduleOut):
    """An interval schedule and the id of its job."""


class OneTimeScheduleOut(OneTimeSchedule, _ScheduleOut):
    """A one-time schedule and the id of its job."""


ScheduleOut = Annotated[
    CronScheduleOut | IntervalScheduleOut | OneTimeScheduleOut, Field(discriminator="type")
]
_ANY_SCHEDULE_OUT: TypeAdapter[ScheduleOut] = TypeAdapter(ScheduleOut)


def schedule_out(job_id: str, schedule: Schedule) -> ScheduleOut:
    """The schedule as responses show it."""
    fields = schedule.model_dump() | {"job_id": job_id}
    shown: ScheduleOut = _ANY_SCHEDULE_OUT.validate_python(fields)
    return shown


class SchedulesOut(OutputModel):
    """All schedules of a job."""

    items: list[ScheduleOut]
