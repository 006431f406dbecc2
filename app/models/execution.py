"""Executions and attempts: the record of one slot or manual request."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self, TypedDict, Unpack

from pydantic import Field, Strict, field_validator

from app.models.policy import OverlapPolicy
from app.models.record import Instant, Record


class ExecutionStatus(StrEnum):
    """Where an execution is."""

    QUEUED = "queued"
    """It waits for its time, or for a worker."""
    RUNNING = "running"
    """A worker holds its lease."""
    SUCCEEDED = "succeeded"
    """The target accepted the last attempt."""
    FAILED = "failed"
    """The last attempt failed and no other is due."""
    TIMED_OUT = "timed_out"
    """The last attempt timed out and no other is due."""
    CANCELLED = "cancelled"
    """A user, the overlap policy or the deletion of its job ended it; `reason` says which.

    It may have this status from the start, if a newer slot of its job was recorded at once."""
    SKIPPED = "skipped"
    """Final from the start: the overlap policy did not allow it to run."""
    MISSED = "missed"
    """Final from the start: it counts slots that were due during an outage and are not executed."""


UNFINISHED_STATUSES = frozenset({ExecutionStatus.QUEUED, ExecutionStatus.RUNNING})
"""The statuses of executions that are not finished. Not all of these are live, see `live_for`."""
FINAL_STATUSES = frozenset(ExecutionStatus) - UNFINISHED_STATUSES
"""The statuses of finished executions. An execution keeps such a status."""

MOVES: Mapping[ExecutionStatus, frozenset[ExecutionStatus]] = {
    ExecutionStatus.QUEUED: frozenset(
        {ExecutionStatus.RUNNING, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}
    ),
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
"""The legal moves from each status. Repositories build their writes with `require_move`."""


def require_move(before: ExecutionStatus, after: ExecutionStatus) -> ExecutionStatus:
    """Raise ValueError if an execution must not move from `before` to `after`.

    Returns `before`, for the condition of the write that makes the move.
    """
    if after not in MOVES[before]:
        raise ValueError(f"an execution must not move from {before} to {after}")
    return before


class Reason(StrEnum):
    """Why an execution is skipped, missed, cancelled or failed as unreadable: the public `reason`
    values."""

    OVERLAP = "overlap"
    """Skipped: another execution of the job was live."""
    BUFFER_FULL = "buffer_full"
    """Skipped: no position among the waiting executions was free."""
    CATCH_UP = "catch_up"
    """Missed: the slots were late and the catch-up policy does not execute them."""
    CANCELLED_BY_USER = "cancelled_by_user"
    """A user cancelled it."""
    CANCELLED_BY_OVERLAP = "cancelled_by_overlap"
    """A newer execution cancelled it, under `cancel_other`."""
    TERMINATED_BY_OVERLAP = "terminated_by_overlap"
    """A newer execution ended it without asking its worker, under `terminate_other`."""
    REPLACED_BY_NEWER = "replaced_by_newer"
    """It was waiting, and a newer execution took its position, under `cancel_other`."""
    JOB_DELETED = "job_deleted"
    """Its job was deleted."""
    UNREADABLE = "unreadable"
    """Failed: the stored execution or its job is malformed."""


class ExecutionKind(StrEnum):
    """Why an execution exists."""

    SCHEDULED = "scheduled"
    """A slot of a schedule."""
    MANUAL = "manual"
    """A user executed the job."""
    RETRY = "retry"
    """A user retried a finished execution."""
    BACKFILL = "backfill"
    """A user asked for the slots of a past range."""


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    """The target accepted it."""
    FAILED = "failed"
    """The target rejected it, or could not be reached."""
    TIMED_OUT = "timed_out"
    """It did not end within the job's timeout."""
    CANCELLED = "cancelled"
    """It was stopped, because its execution was cancelled."""
    ABANDONED = "abandoned"
    """Its worker died, stopped or lost the lease."""


class Truncation(StrEnum):
    """Why a stored response lacks headers or a part of its body: the public `truncated_reason`
    values."""

    TOO_LARGE = "too_large"
    """The body has more than 64 KB, or the database did not accept it."""
    EARLIER_ATTEMPT = "earlier_attempt"
    """It belongs to an attempt before the last three of its execution. Together these keep 16 KB of
    their bodies and no headers."""
    OLDER_EXECUTION = "older_execution"
    """Its execution is neither one of the 20 of its job that finished last, nor one of the 20 that
    failed last."""
    HISTORY_LIMIT = "history_limit"
    """The owner already had `MAX_HISTORY_BYTES_PER_OWNER` of stored responses."""


class TargetResponse(Record):
    """What the target returned: the status, and what is kept of the headers and the body."""

    status: int | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""
    truncated: bool = False
    """Whether headers or a part of the body are not stored."""
    truncated_reason: Truncation | None = None
    """Why; None if nothing is missing, and for responses that earlier releases truncated."""


class Attempt(Record):
    """One try. Counted from 1."""

    number: Annotated[int, Strict()]
    job_revision: int
    started_at: Instant
    finished_at: Instant | None = None
    outcome: AttemptOutcome | None = None
    error: str | None = None
    response: TargetResponse | None = None


Hops = Annotated[int, Strict(), Field(ge=0)]
"""How many targets of this service stand between a user and a request: a target that calls the
service's own API adds one."""

HOPS_HEADER = "X-Carillon-Hops"
"""The header of a request that carries its hops."""
MAX_HOPS = 1
"""A target may execute, create or edit another job, whose target may do none of these."""


class Origin(TypedDict, total=False):
    """Fields that only some executions have."""

    schedule_id: str | None
    parameters: dict[str, Any] | None
    retry_of: str
    backfill_id: str
    hops: int


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
    reason: Reason | None = None
    lease_owner: str | None = None
    lease_until: Instant | None = None
    lease_token: Annotated[int, Strict()] = 0
    live_for: str | None = None
    """The job's id while this execution is live: `queued` or `running`, not waiting, and not under
    `allow_all`. Else None. An index keeps it unique."""
    waiting: Annotated[bool, Strict()] = False
    """Whether it waits for the end of a live execution of its job."""
    place: int | None = None
    """Its position among the waiting executions of its job, from 0; None if it is not waiting."""
    cancel_requested_at: Instant | None = None
    retry_of: str | None = None
    backfill_id: str | None = None
    parameters: dict[str, Any] | None = None
    """The parameters in place of the job's; None means the job's own."""
    overlap_policy: OverlapPolicy | None = None
    missed_until: Instant | None = None
    """The last slot that a `missed` record covers; `scheduled_for` is the first."""
    missed_count: int | None = None
    attempts: tuple[Attempt, ...] = ()
    response_bytes: Annotated[int, Strict()] | None = None
    """The size of the responses whose headers or bodies are stored; None if there are none. The
    database computes it. Two indexes contain the executions that have it."""
    hops: Hops = 0
    """The hops of the request that made it or its job. Its target gets one more."""
    created_at: Instant
    finished_at: Instant | None = None

    @field_validator("attempts")
    @classmethod
    def _check_numbers(cls, attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        """Conditions of writes find an attempt by its number."""
        if any(one.number != position for position, one in enumerate(attempts, start=1)):
            raise ValueError("attempts are not numbered from 1")
        return attempts

    @classmethod
    def queue(
        cls,
        execution_id: str,
        *,
        job_id: str,
        owner_id: str,
        kind: ExecutionKind,
        scheduled_for: datetime,
        run_at: datetime,
        policy: OverlapPolicy,
        now: datetime,
        **origin: Unpack[Origin],
    ) -> Self:
        """Make a queued execution of any kind. It may start at `run_at`, subject to `policy`.

        `now` is the database's present instant.
        """
        return cls(
            id=execution_id,
            job_id=job_id,
            owner_id=owner_id,
            kind=kind,
            scheduled_for=scheduled_for,
            run_at=run_at,
            status=ExecutionStatus.QUEUED,
            overlap_policy=None if kind is ExecutionKind.SCHEDULED else policy,
            live_for=None if policy is OverlapPolicy.ALLOW_ALL else job_id,
            created_at=now,
            **origin,
        )

    def skip(self, reason: Reason, now: datetime) -> Self:
        """Return this execution as one that the overlap policy skipped."""
        return self._end_unstarted(ExecutionStatus.SKIPPED, reason, now)

    def cancel(self, reason: Reason, now: datetime) -> Self:
        """Return this execution as one that a newer one replaced before it was stored."""
        return self._end_unstarted(ExecutionStatus.CANCELLED, reason, now)

    def miss(self, *, until: datetime, count: int, now: datetime) -> Self:
        """Return one record of `count` missed slots: this one and all others through `until`."""
        missed = self._end_unstarted(ExecutionStatus.MISSED, Reason.CATCH_UP, now)
        return missed.model_copy(update={"missed_until": until, "missed_count": count})

    def wait_at(self, place: int) -> Self:
        """Return this execution as a waiting one, at a position from 0."""
        return self.model_copy(update={"waiting": True, "place": place, "live_for": None})

    def _end_unstarted(self, status: ExecutionStatus, reason: Reason, now: datetime) -> Self:
        ended = {"status": status, "reason": reason, "finished_at": now}
        return self.model_copy(update=ended | {"live_for": None, "place": None, "waiting": False})
