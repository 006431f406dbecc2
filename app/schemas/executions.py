"""Executions in requests and in responses."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, computed_field, model_validator

from app.models.execution import (
    AttemptOutcome,
    Execution,
    ExecutionKind,
    ExecutionStatus,
    Reason,
    TargetResponse,
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
    Seconds,
    Text,
    reject,
)
from app.schemas.pages import PARTIAL, Page, PageQuery

_LONGEST_BACKFILL = timedelta(days=366)
_OF_PAST_SLOTS = frozenset({ExecutionKind.RETRY, ExecutionKind.BACKFILL})
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


class _AttemptOut(OutputModel):
    """The fields of an attempt in every response."""

    number: int
    job_revision: int = Field(description="The revision of the job that was executed.")
    started_at: Instant
    finished_at: Instant | None
    outcome: AttemptOutcome | None
    error: str | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def duration_seconds(self) -> Seconds | None:
        """From `started_at` to `finished_at`; null while the attempt is running."""
        return (
            None
            if self.finished_at is None
            else _seconds_between(self.started_at, self.finished_at)
        )


class AttemptOut(_AttemptOut):
    """One try. Counted from 1."""

    response: TargetResponse | None


class PartialTargetResponse(OutputModel):
    """What the target returned, without `headers` and `body`."""

    status: int | None
    truncated: bool
    truncated_reason: Truncation | None


class PartialAttempt(_AttemptOut):
    """One try. Counted from 1."""

    response: PartialTargetResponse | None


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
    attempts: tuple[_AttemptOut, ...]

    @classmethod
    def of(cls, execution: Execution) -> Self:
        return cls.model_validate(execution)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def start_delay_seconds(self) -> Seconds | None:
        """How late the first attempt started: from `scheduled_for`, or from `created_at` for the
        kinds `retry` and `backfill`, whose slots are in the past. It includes jitter and the wait
        for an earlier execution of the job. Null before the first attempt.
        """
        if not self.attempts:
            return None
        since = self.created_at if self.kind in _OF_PAST_SLOTS else self.scheduled_for
        return _seconds_between(since, self.attempts[0].started_at)


class ExecutionOut(_ExecutionOut):
    """The record of one slot or manual request."""

    attempts: tuple[AttemptOut, ...]
    parameters: dict[str, Any] | None = Field(
        description="The parameters that the newest attempt has sent: those of the request, or "
        "else those of the job at that time (`job_revision`). Null if the request had none and no "
        "attempt has started, or if the parameters of that revision are not stored any more."
    )


class PartialExecutionOut(_ExecutionOut):
    """An execution in a listing: without `parameters`, and without headers and bodies of
    responses."""

    partial: Literal[True] = Field(default=True, description=PARTIAL)
    attempts: tuple[PartialAttempt, ...]


class ExecutionPage(Page[PartialExecutionOut | ExecutionOut]):
    """A page of executions: partial ones, or whole ones with `fields=full`."""


def _seconds_between(start: datetime, end: datetime) -> float:
    """Not negative: the clock of the database may have been set back."""
    return max(0.0, (end - start).total_seconds())
