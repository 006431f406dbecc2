"""Responses on future slots, and on what happened to an instant."""

from enum import StrEnum

from pydantic import Field

from app.models.execution import ExecutionStatus
from app.models.record import Instant
from app.schemas.json_types import OutputModel


class PreviewSlot(OutputModel):
    """One slot of a preview."""

    schedule_id: str | None = Field(default=None, description="Null for an unsaved schedule.")
    utc: Instant
    local: str = Field(description="The local time in the schedule's time zone, with its offset.")
    offset: str = Field(description="The offset from UTC, such as +01:00.")
    notes: list[str] = Field(description="How a clock change affects this slot.")


class Preview(OutputModel):
    """When a schedule fires: a description, warnings and its next slots."""

    description: str
    warnings: list[str] = Field(description="Properties that may be unintended; not errors.")
    next_runs: list[PreviewSlot]


class Verdict(StrEnum):
    """What happened to an instant."""

    RECORDED = "recorded"
    """It is a slot with an execution. The execution's status says more."""
    MISSED = "missed"
    """It is one of the slots that a `missed` record counts."""
    PENDING = "pending"
    """It is a future instant that the rule names. It is executed if the job and the schedule are
    active and unchanged then, `max_runs` is not reached and the policies allow it."""
    NEVER_DUE = "never_due"
    """It is not a slot of this schedule."""
    NOT_RECORDED = "not_recorded"
    """It is a slot by the present rule, but it has no record."""


class SlotVerdict(OutputModel):
    """What happened to an instant in one schedule."""

    schedule_id: str
    verdict: Verdict
    explanation: str
    execution_id: str | None = None
    status: ExecutionStatus | None = None
    slot_before: Instant | None = None
    slot_after: Instant | None = None


class InstantExplanation(OutputModel):
    """What happened to an instant, for each schedule of the job."""

    at: Instant
    items: list[SlotVerdict]
