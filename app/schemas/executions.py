"""Executions in requests and in responses."""

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from app.models.execution import (
    Attempt,
    AttemptOutcome,
    Execution,
    ExecutionKind,
    ExecutionStatus,
    Reason,
    Truncation,
)
from app.models.policy import OverlapPolicy
from app.models.record import Instant
from app.schemas.json_types import (
    AtMost,
    Flag,
    InputInstant,
    InputModel,
    JsonObject,
    OutputModel,
    Text,
    reject,
)
from app.schemas.pages import PARTIAL, Page, PageQuery

_LONGEST_BACKFILL = timedelta(days=366)
_IdText = Annotated[Text, Field(max_length=64)]


class _RequestedExecutionIn(InputModel):
    """The fields of an execution that a user requests."""

    overlap_policy: OverlapPolicy = Field(
        default=OverlapPolicy.ALLOW_ALL,
        description="What happens while another execution of the job is live.",
    )


class ManualExecutionIn(_RequestedExecutionIn):
    """How the execution differs from those of the job's schedules."""

    parameters: JsonObject | None = Field(
        default=None, description="Replace the job's parameters. Without them the job's are sent."
    )


class ExecutionQuery(PageQuery):
    """The filters of a listing of executions."""

    status: Annotated[tuple[ExecutionStatus, ...], AtMost(len(ExecutionStatus))] = Field(
        default=(),
        description="Executions with one of these statuses. Default: all statuses.",
    )
    kind: ExecutionKind | None = Field(default=None, description="Executions of this kind.")
    since: InputInstant | None = Field(
        default=None, alias="from", description="Executions whose slot is at or after this instant."
    )
    until: InputInstant | None = Field(
        default=None, alias="to", description="Executions whose slot is before this instant."
    )


class AllExecutionsQuery(ExecutionQuery):
    """The filters of a listing of executions of all jobs."""

    job_id: _IdText | None = Field(default=None, description="Executions of this job.")


class RetryExecutionIn(_RequestedExecutionIn):
    """How the new execution differs from the one that it retries."""

    parameters: JsonObject | None = Field(
        default=None,
        description="Replace the execution's parameters. Without them the same ones are sent.",
    )


class BackfillIn(InputModel):
    """The range [start, end) whose slots are executed."""

    start: InputInstant = Field(description="The first instant of the range.")
    end: InputInstant = Field(description="The end of the range, exclusive. Not in the future.")
    dry_run: Flag = Field(default=False, description="Only list the slots.")
    overlap_policy: OverlapPolicy = Field(
        default=OverlapPolicy.BUFFER_ALL,
        description="`buffer_all`: one after the other, in order. `allow_all`: in parallel, ten "
        "started per second, at most 1,000 slots. Other policies: as if all slots were due now. "
        "At most 101 slots, except with `allow_all`.",
    )
    schedule_id: _IdText | None = Field(
        default=None,
        description="Only slots of this schedule. Default: of all schedules of the job.",
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.start >= self.end:
            reject("end must be after start", "end")
        if self.end - self.start > _LONGEST_BACKFILL:
            reject(f"a range has at most {_LONGEST_BACKFILL.days} days", "end")
        return self


class BackfillSlot(OutputModel):
    """A slot in the range."""

    schedule_id: str
    scheduled_for: Instant


class BackfillOut(OutputModel):
    """The slots that a backfill executes, or would execute."""

    backfill_id: str | None = Field(
        description="The `backfill_id` of the executions; null after a dry run."
    )
    count: int = Field(
        description="The number of slots. Each gets an execution, which is `skipped` if the "
        "overlap policy does not let it run."
    )
    slots: list[BackfillSlot] = Field(description="The slots in order, at most 1,000.")


class _ExecutionOut(OutputModel):
    """The fields of an execution in every response."""

    id: str
    job_id: str
    schedule_id: str | None
    kind: ExecutionKind
    scheduled_for: Instant = Field(description="The slot, or the instant of the manual request.")
    run_at: Instant = Field(description="When it, or its next attempt, may start.")
    status: ExecutionStatus
    reason: Reason | None = Field(
        description="Why it was skipped, missed or cancelled; `unreadable`: failed, because its "
        "stored document or its job is malformed."
    )
    overlap_policy: OverlapPolicy | None = Field(
        description="The overlap policy of this execution; null: the job's policy."
    )
    retry_of: str | None
    backfill_id: str | None
    cancel_requested_at: Instant | None
    missed_until: Instant | None = Field(description="The last slot of a missed record.")
    missed_count: int | None = Field(description="The number of slots that a missed record counts.")
    created_at: Instant
    finished_at: Instant | None

    @classmethod
    def of(cls, execution: Execution) -> Self:
        return cls.model_validate(execution)


class ExecutionOut(_ExecutionOut):
    """The record of one slot or manual request."""

    attempts: tuple[Attempt, ...]
    parameters: dict[str, Any] | None = Field(
        description="The parameters of this execution; null: the job's parameters."
    )


class PartialTargetResponse(OutputModel):
    """What the target returned, without `headers` and `body`."""

    status: int | None
    truncated: bool
    truncated_reason: Truncation | None


class PartialAttempt(OutputModel):
    """One try. Counted from 1."""

    number: int
    job_revision: int
    started_at: Instant
    finished_at: Instant | None
    outcome: AttemptOutcome | None
    error: str | None
    response: PartialTargetResponse | None


class PartialExecutionOut(_ExecutionOut):
    """An execution in a listing: without `parameters`, and without headers and bodies of
    responses."""

    partial: Literal[True] = Field(default=True, description=PARTIAL)
    attempts: tuple[PartialAttempt, ...]


class ExecutionPage(Page[PartialExecutionOut | ExecutionOut]):
    """A page of executions: partial ones, or whole ones with `fields=full`."""
