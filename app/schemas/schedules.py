"""Schedules as requests describe them and answers show them."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from app.errors import FieldError, InvalidInputError
from app.models.execution import ExecutionStatus
from app.models.record import Instant
from app.models.schedule import CronSchedule, IntervalSchedule, OneTimeSchedule, Schedule
from app.schemas.json_types import (
    Flag,
    InputInstant,
    InputModel,
    Integer,
    OutputModel,
    Text,
    TimeZone,
    refuse,
    refuse_as,
    without_defaults,
)
from app.triggers import CronTrigger
from app.triggers.cron import Dst

MAX_INTERVAL_SECONDS = 31_536_000
_LEFT_OUT = datetime.min.replace(tzinfo=UTC)

IntervalSeconds = Annotated[Integer, Field(ge=1, le=MAX_INTERVAL_SECONDS)]


class _ScheduleIn(InputModel):
    """What all schedules have."""

    id: Text | None = Field(
        default=None,
        description="In an edit: the schedule of this job that is meant. It keeps its identity.",
    )
    timezone: TimeZone = Field(default="UTC", description="IANA name; cron is read in it.")
    start_at: InputInstant | None = Field(default=None, description="No slot before it.")
    end_at: InputInstant | None = Field(default=None, description="No slot after it.")
    active: Flag = True
    max_runs: Annotated[Integer, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="How many scheduled runs there are in all; null: no limit."
    )
    jitter_seconds: Annotated[Integer, Field(ge=0, le=86_400)] = Field(
        default=0, description="Runs start up to this much after their slot."
    )

    @field_validator("end_at")
    @classmethod
    def _ends_after_start(cls, end_at: datetime | None, info: ValidationInfo) -> datetime | None:
        start_at = info.data.get("start_at")
        if end_at is not None and start_at is not None and end_at < start_at:
            refuse("end_at must not be before start_at")
        return end_at


class CronScheduleIn(_ScheduleIn):
    """Slots by a cron expression."""

    type: Literal["cron"]
    seconds: Flag = Field(default=False, description="Whether a sixth field, seconds, is first.")
    dst: Dst = Field(
        default=Dst.DEBIAN,
        description="What a fixed time does where the clock changes: `debian` fires once, `skip` "
        "not in the gap, `twice` both times of the repeated hour.",
    )
    cron_expression: Text = Field(examples=["0 9 * * MON"])

    @field_validator("cron_expression")
    @classmethod
    def _is_cron(cls, expression: str, info: ValidationInfo) -> str:
        return check_cron(expression, info.data)


class IntervalScheduleIn(_ScheduleIn):
    """Slots every so many seconds, counted from `start_at`, else from now."""

    type: Literal["interval"]
    interval_seconds: IntervalSeconds = Field(examples=[600])


class OneTimeScheduleIn(_ScheduleIn):
    """A single slot."""

    type: Literal["one_time"]
    run_at: InputInstant


ScheduleIn = Annotated[
    CronScheduleIn | IntervalScheduleIn | OneTimeScheduleIn, Field(discriminator="type")
]


def check_cron(expression: str, known: dict[str, Any]) -> str:
    """`expression`, if it fires; `known` holds the fields beside it that are valid."""
    try:
        CronTrigger.parse(
            expression,
            zone=ZoneInfo(known.get("timezone") or "UTC"),
            seconds=known.get("seconds", False),
            dst=known.get("dst", Dst.DEBIAN),
        )
    except InvalidInputError as error:
        refuse_as(error)
    return expression


class ScheduleChange(InputModel):
    """What is named is changed, what is left out stays. Another `type` needs its own fields."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    type: Literal["cron", "interval", "one_time"] = Field(
        default="cron", description="Left out: as it is."
    )
    timezone: TimeZone = "UTC"
    start_at: InputInstant | None = None
    end_at: InputInstant | None = None
    active: Flag = True
    max_runs: Annotated[Integer, Field(ge=1, le=1_000_000_000)] | None = None
    jitter_seconds: Annotated[Integer, Field(ge=0, le=86_400)] = 0
    cron_expression: Text = ""
    seconds: Flag = False
    dst: Dst = Dst.DEBIAN
    interval_seconds: IntervalSeconds = 1
    run_at: InputInstant = _LEFT_OUT

    def applied_to(self, schedule: Schedule) -> ScheduleIn:
        """The whole schedule after the change. Raises InvalidInputError, with pointers."""
        given = self.model_dump(include=self.model_fields_set)
        kind = given.get("type") or schedule.type
        own = _COMMON if kind != schedule.type else _COMMON | _OWN[kind]
        fields = schedule.model_dump(include=own) | given | {"type": kind, "id": schedule.id}
        try:
            whole: ScheduleIn = _ANY_SCHEDULE.validate_python(fields)
        except ValidationError as error:
            raise _refusal(error) from None
        return whole


class _OfJob(OutputModel):
    """What belongs to a job."""

    job_id: str


class CronScheduleOut(CronSchedule, _OfJob):
    """A cron schedule, and the job it belongs to."""


class IntervalScheduleOut(IntervalSchedule, _OfJob):
    """An interval schedule, and the job it belongs to."""


class OneTimeScheduleOut(OneTimeSchedule, _OfJob):
    """A one-time schedule, and the job it belongs to."""


ScheduleOut = Annotated[
    CronScheduleOut | IntervalScheduleOut | OneTimeScheduleOut, Field(discriminator="type")
]


def shown_schedule(job_id: str, schedule: Schedule) -> ScheduleOut:
    """The schedule as every route answers it."""
    fields = schedule.model_dump() | {"job_id": job_id}
    shown: ScheduleOut = _ANY_SCHEDULE_OUT.validate_python(fields)
    return shown


class SchedulesOut(OutputModel):
    """All schedules of a job."""

    items: list[ScheduleOut]


class ComingSlot(OutputModel):
    """A slot to come."""

    schedule_id: str | None = Field(default=None, description="Null for what is not saved yet.")
    utc: Instant
    local: str = Field(description="The wall clock in the schedule's time zone, with its offset.")
    offset: str = Field(description="From UTC, such as +01:00.")
    notes: list[str] = Field(description="What a clock change does to it.")


class Preview(OutputModel):
    """When a schedule fires, in words and in instants."""

    description: str
    warnings: list[str] = Field(description="What may surprise; not an error.")
    next_runs: list[ComingSlot]


class Verdict(StrEnum):
    """What became of an instant."""

    RECORDED = "recorded"
    """It is a slot with an execution, whose status says the rest."""
    MISSED = "missed"
    """It is one of the slots that a missed record counts."""
    PENDING = "pending"
    """It is a slot to come."""
    NEVER_DUE = "never_due"
    """It is no slot of this schedule."""
    NOT_RECORDED = "not_recorded"
    """It is a slot by today's rule, but then the schedule was paused, other or not there yet."""


class WhyAnswer(OutputModel):
    """What one schedule says of an instant."""

    schedule_id: str
    verdict: Verdict
    explanation: str
    execution_id: str | None = None
    status: ExecutionStatus | None = None
    slot_before: Instant | None = None
    slot_after: Instant | None = None


class Why(OutputModel):
    """What became of an instant, schedule by schedule."""

    at: Instant
    answers: list[WhyAnswer]


_COMMON = {"timezone", "start_at", "end_at", "active", "max_runs", "jitter_seconds"}
_OWN = {
    "cron": {"cron_expression", "seconds", "dst"},
    "interval": {"interval_seconds"},
    "one_time": {"run_at"},
}
_ANY_SCHEDULE: TypeAdapter[ScheduleIn] = TypeAdapter(ScheduleIn)
_ANY_SCHEDULE_OUT: TypeAdapter[ScheduleOut] = TypeAdapter(ScheduleOut)


def _refusal(error: ValidationError) -> InvalidInputError:
    fields = [
        FieldError(f"/{detail['loc'][-1]}", detail["msg"])
        for detail in error.errors(include_url=False, include_input=False)
    ]
    return InvalidInputError("; ".join(f"{f.pointer}: {f.detail}" for f in fields), fields)
