"""Jobs: definitions with a target, policies and schedules."""

import unicodedata
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, Strict, computed_field

from app.models.execution import ExecutionStatus, Hops
from app.models.policy import CatchUpPolicy, OverlapPolicy, RetryPolicy
from app.models.record import Instant, Record
from app.models.schedule import Schedule
from app.models.target import TargetSpec

LONGEST_TIMEOUT_SECONDS = 86_400
"""Of a stored job. The setting MAX_TIMEOUT_SECONDS may be lower."""


class PauseReason(StrEnum):
    """Why the service itself has paused a job."""

    GONE = "gone"
    """The receiver responded 410: it is gone for good."""
    UNREADABLE = "unreadable"
    """The stored job is malformed."""


class Job(Record):
    """One document: the job and its schedules, read and written together."""

    id: str
    owner_id: str
    name: str
    description: str = ""
    active: bool = True
    pause_reason: PauseReason | None = None
    """None for an active job and for a job that a user paused."""
    tags: tuple[str, ...] = ()
    target: TargetSpec
    parameters: dict[str, Any] = Field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()
    timeout_seconds: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT_SECONDS)] = 60
    overlap_policy: OverlapPolicy = OverlapPolicy.SKIP
    catch_up: CatchUpPolicy = CatchUpPolicy()
    schedules: tuple[Schedule, ...] = ()
    next_run: Instant | None = None
    """The earliest `next_run` of its active schedules, while the job is active; else None."""
    last_run: Instant | None = None
    """The newest slot whose execution has finished. It is written in batches, so it may be about a
    second behind the history."""
    last_status: ExecutionStatus | None = None
    revision: Annotated[int, Strict(), Field(ge=1, le=10**15)] = 1
    """Each edit by a user increases it; firing does not."""
    hops: Hops = 0
    """The most hops of the requests that created and edited the job and its schedules. Its
    executions have at least as many."""
    created_at: Instant
    updated_at: Instant

    @computed_field  # type: ignore[prop-decorator]
    @property
    def folded_name(self) -> str:
        """The name by which listings sort and search. It is stored for an index."""
        return fold(self.name)

    def limit_timeout(self, most_seconds: float) -> timedelta:
        """The timeout of an attempt in a service whose longest timeout is `most_seconds`."""
        return timedelta(seconds=min(self.timeout_seconds, most_seconds))


def fold(text: str) -> str:
    """Return `text` without differences of case and of equivalent Unicode forms."""
    return unicodedata.normalize("NFKC", text).casefold()


def earliest_next_run(schedules: tuple[Schedule, ...], *, active: bool) -> datetime | None:
    """Return a job's `next_run`: the minimum over its active schedules; None for a paused job."""
    instants = (s.next_run for s in schedules if s.active and s.next_run is not None)
    return min(instants, default=None) if active else None


def differs_in_slots(before: Job, after: Job) -> bool:
    """Whether an edit changes when the job is due, or what becomes of its late slots.

    The slots that are due before such an edit must be fired first. Otherwise a process that has
    read the job before the edit could decide on them in another way.
    """
    return (before.active, before.schedules, before.catch_up) != (
        after.active,
        after.schedules,
        after.catch_up,
    )
