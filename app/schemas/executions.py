"""Executions as requests ask for them and answers show them."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from app.models.execution import Attempt, Execution, ExecutionKind, ExecutionStatus
from app.models.policy import OverlapPolicy
from app.models.record import Moment
from app.schemas.jobs import BuiltOverlapPolicy
from app.schemas.json_types import InputModel, Instant, JsonObject
from app.schemas.pages import PageQuery


class ExecuteIn(InputModel):
    """How a run that is asked for differs from the job's own."""

    parameters: JsonObject | None = Field(
        default=None, description="In place of the job's; left out: the job's own."
    )
    overlap_policy: BuiltOverlapPolicy = Field(
        default=OverlapPolicy.ALLOW_ALL,
        description="`allow_all` runs at once; `skip` does not run while another is live.",
    )


class ExecutionQuery(PageQuery):
    """Which executions a listing shows."""

    status: tuple[ExecutionStatus, ...] = Field(
        default=(), max_length=len(ExecutionStatus), description="Any of these; none given: all."
    )
    since: Instant | None = Field(
        default=None, alias="from", description="The first slot that is shown."
    )
    until: Instant | None = Field(
        default=None, alias="to", description="The first slot that is not shown any more."
    )


class ExecutionOut(BaseModel):
    """The record of one slot or manual request."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    job_id: str
    schedule_id: str | None
    kind: ExecutionKind
    scheduled_for: Moment = Field(description="The slot, or when it was asked for.")
    run_at: Moment = Field(description="When it may start, or its next attempt.")
    status: ExecutionStatus
    reason: str | None = Field(description="Why it is skipped, missed or cancelled.")
    attempts: tuple[Attempt, ...]
    parameters: dict[str, Any] | None = Field(description="In place of the job's; else null.")
    overlap_policy: OverlapPolicy | None = Field(description="In place of the job's; else null.")
    retry_of: str | None
    backfill_id: str | None
    cancel_requested_at: Moment | None
    missed_until: Moment | None = Field(description="The last slot of a missed record.")
    missed_count: int | None = Field(description="How many slots a missed record counts.")
    created_at: Moment
    finished_at: Moment | None

    @classmethod
    def of(cls, execution: Execution) -> Self:
        return cls.model_validate(execution)
