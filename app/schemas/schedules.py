"""Schedules as requests describe them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationInfo, field_validator

from app.errors import InvalidInputError
from app.schemas.json_types import (
    Flag,
    InputModel,
    Instant,
    Integer,
    Text,
    TimeZone,
    refuse,
    refuse_as,
)
from app.triggers import CronTrigger
from app.triggers.cron import Dst

MAX_INTERVAL_SECONDS = 31_536_000

IntervalSeconds = Annotated[Integer, Field(ge=1, le=MAX_INTERVAL_SECONDS)]


class _ScheduleIn(InputModel):
    """What all schedules have."""

    id: Text | None = Field(
        default=None,
        description="In an edit: the schedule of this job that is meant. It keeps its identity.",
    )
    timezone: TimeZone = Field(default="UTC", description="IANA name; cron is read in it.")
    start_at: Instant | None = Field(default=None, description="No slot before it.")
    end_at: Instant | None = Field(default=None, description="No slot after it.")
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
    run_at: Instant


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
