"""Executions as requests ask for them and answers show them."""

from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from app.models.execution import Attempt, Execution, ExecutionKind, ExecutionStatus
from app.models.policy import OverlapPolicy
from app.models.record import Instant
from app.schemas.json_types import (
    Flag,
    InputInstant,
    InputModel,
    JsonObject,
    OutputModel,
    Text,
    refuse,
)
from app.schemas.pages import PageQuery

_LONGEST_BACKFILL = timedelta(days=366)


class ExecuteIn(InputModel):
    """How a run that is asked for differs from the job's own."""

    parameters: JsonObject | None = Field(
        default=None, description="In place of the job's; left out: the job's own."
    )
    overlap_policy: OverlapPolicy = Field(
        default=OverlapPolicy.ALLOW_ALL,
        description="What happens while another execution of the job is live.",
    )


class ExecutionQuery(PageQuery):
    """Which executions a listing shows."""

    status: tuple[ExecutionStatus, ...] = Field(
        default=(), max_length=len(ExecutionStatus), description="Any of these; none given: all."
    )
    kind: ExecutionKind | None = Field(default=None, description="Why it exists.")
    since: InputInstant | None = Field(
        default=None, alias="from", description="The first slot that is shown."
    )
    until: InputInstant | None = Field(
        default=None, alias="to", description="The first slot that is not shown any more."
    )


class AllExecutionsQuery(ExecutionQuery):
    """Which executions a listing across jobs shows."""

    job_id: Annotated[Text, Field(max_length=64)] | None = Field(
        default=None, description="Of this job only."
    )


class RetryExecutionIn(InputModel):
    """How another run of an ended execution differs from it."""

    parameters: JsonObject | None = Field(
        default=None, description="In place of the execution's; left out: the same."
    )
    overlap_policy: OverlapPolicy = Field(
        default=OverlapPolicy.ALLOW_ALL,
        description="What happens while another execution of the job is live.",
    )


class BackfillIn(InputModel):
    """The slots of a past range [start, end)."""

    start: InputInstant = Field(description="The first instant of the range.")
    end: InputInstant = Field(
        description="The end of the range, not part of it; not in the future."
    )
    dry_run: Flag = Field(default=False, description="Only say which slots there are.")
    overlap_policy: OverlapPolicy = Field(
        default=OverlapPolicy.BUFFER_ALL,
        description="`buffer_all`: one after the other, in order. `allow_all`: side by side, ten "
        "started a second, at most 1,000 slots. Others as if the slots were due now, all at once. "
        "At most 101 slots but under `allow_all`.",
    )
    schedule_id: Annotated[Text, Field(max_length=64)] | None = Field(
        default=None, description="Of this schedule only; left out: of all the job's schedules."
    )

    @model_validator(mode="after")
    def _is_range(self) -> Self:
        if self.start >= self.end:
            refuse("the end must be after the start", "end")
        if self.end - self.start > _LONGEST_BACKFILL:
            refuse("a range has at most 366 days", "end")
        return self


class BackfillSlot(OutputModel):
    """A slot in the range."""

    schedule_id: str
    scheduled_for: Instant


class BackfillOut(OutputModel):
    """What a backfill runs, or would run."""

    backfill_id: str | None = Field(description="Of the executions; null after a dry run.")
    count: int = Field(
        description="How many slots there are. Each gets an execution, which is `skipped` where "
        "the overlap policy does not let it run."
    )
    slots: list[BackfillSlot] = Field(description="In order; at most 1,000.")


class ExecutionOut(OutputModel):
    """The record of one slot or manual request."""

    id: str
    job_id: str
    schedule_id: str | None
    kind: ExecutionKind
    scheduled_for: Instant = Field(description="The slot, or when it was asked for.")
    run_at: Instant = Field(description="When it may start, or its next attempt.")
    status: ExecutionStatus
    reason: str | None = Field(description="Why it is skipped, missed or cancelled.")
    attempts: tuple[Attempt, ...]
    parameters: dict[str, Any] | None = Field(description="In place of the job's; else null.")
    overlap_policy: OverlapPolicy | None = Field(description="In place of the job's; else null.")
    retry_of: str | None
    backfill_id: str | None
    cancel_requested_at: Instant | None
    missed_until: Instant | None = Field(description="The last slot of a missed record.")
    missed_count: int | None = Field(description="How many slots a missed record counts.")
    created_at: Instant
    finished_at: Instant | None

    @classmethod
    def of(cls, execution: Execution) -> Self:
        return cls.model_validate(execution)
