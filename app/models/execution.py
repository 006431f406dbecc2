"""Executions and attempts: what became of one slot or manual request."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from app.models.policy import OverlapPolicy
from app.models.record import Instant, Record


class ExecutionStatus(StrEnum):
    """Where an execution is."""

    QUEUED = "queued"
    """Waits for its time, or for a worker."""
    RUNNING = "running"
    """A worker holds the lease."""
    SUCCEEDED = "succeeded"
    """The last attempt reached the target and the target accepted it."""
    FAILED = "failed"
    """The last attempt failed and no other is due."""
    TIMED_OUT = "timed_out"
    """The last attempt ran out of time and no other is due."""
    CANCELLED = "cancelled"
    """Ended by a person, or because its job was deleted."""
    SKIPPED = "skipped"
    """Final from birth: the overlap policy let it not run."""
    MISSED = "missed"
    """Final from birth: slots that were not recorded in time and do not run."""


LIVE_STATUSES = frozenset({ExecutionStatus.QUEUED, ExecutionStatus.RUNNING})
FINAL_STATUSES = frozenset(ExecutionStatus) - LIVE_STATUSES

MOVES: Mapping[ExecutionStatus, frozenset[ExecutionStatus]] = {
    ExecutionStatus.QUEUED: frozenset({ExecutionStatus.RUNNING, ExecutionStatus.CANCELLED}),
    ExecutionStatus.RUNNING: frozenset(
        {
            ExecutionStatus.QUEUED,
            ExecutionStatus.SUCCEEDED,
            ExecutionStatus.FAILED,
            ExecutionStatus.TIMED_OUT,
            ExecutionStatus.CANCELLED,
        }
    ),
    **{status: frozenset() for status in FINAL_STATUSES},
}
"""Every legal move. A write names the status it expects and may only make one of these."""


class ExecutionKind(StrEnum):
    """Why an execution exists."""

    SCHEDULED = "scheduled"
    """A slot of a schedule."""
    MANUAL = "manual"
    """Somebody asked for a run now."""
    RETRY = "retry"
    """Somebody asked for a final execution to be run again."""
    BACKFILL = "backfill"
    """Somebody asked for the slots of a past range."""


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    """The target accepted it."""
    FAILED = "failed"
    """The target refused it, or could not be reached."""
    TIMED_OUT = "timed_out"
    """It did not end within the job's timeout."""
    CANCELLED = "cancelled"
    """It was cut because of a cancel."""
    ABANDONED = "abandoned"
    """Its worker died, stopped or lost the lease."""


class Response(Record):
    """What the target answered. The body is cut at 64 KB."""

    status: int | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""
    truncated: bool = False


class Attempt(Record):
    """One try. Counted from 1."""

    number: int
    job_revision: int
    started_at: Instant
    finished_at: Instant | None = None
    outcome: AttemptOutcome | None = None
    error: str | None = None
    response: Response | None = None


class Execution(Record):
    """The record of one slot or manual request."""

    id: str
    job_id: str
    owner_id: str
    schedule_id: str | None = None
    kind: ExecutionKind
    scheduled_for: Instant
    run_at: Instant
    status: ExecutionStatus
    reason: str | None = None
    lease_owner: str | None = None
    lease_until: Instant | None = None
    lease_token: int = 0
    live_for: str | None = None
    """The job's id while this execution is live and was not born under `allow_all`."""
    held: bool = False
    place: int | None = None
    cancel_requested_at: Instant | None = None
    retry_of: str | None = None
    backfill_id: str | None = None
    parameters: dict[str, Any] | None = None
    """Override of the job's parameters; None means the job's own."""
    overlap_policy: OverlapPolicy | None = None
    missed_until: Instant | None = None
    """The last slot that a `missed` record covers; `scheduled_for` is the first."""
    missed_count: int | None = None
    attempts: tuple[Attempt, ...] = ()
    created_at: Instant
    finished_at: Instant | None = None
