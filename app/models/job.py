"""Jobs: definitions with a target, policies and schedules."""

import unicodedata
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import Field, computed_field

from app.models.execution import ExecutionStatus
from app.models.policy import CatchUp, OverlapPolicy, RetryPolicy
from app.models.record import Record
from app.models.schedule import Schedule
from app.models.target import TargetSpec


class PauseReason(StrEnum):
    """Why the service itself has paused a job."""

    GONE = "gone"
    """Its receiver answered 410: there is nothing there any more, and there will not be."""


class Job(Record):
    """One document: the job and its schedules, read and written together."""

    id: str
    owner_id: str
    name: str
    description: str = ""
    active: bool = True
    pause_reason: PauseReason | None = None
    """None for an active job, and for one that a user has paused."""
    tags: tuple[str, ...] = ()
    target: TargetSpec
    parameters: dict[str, Any] = Field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()
    timeout_seconds: float = 60
    overlap_policy: OverlapPolicy = OverlapPolicy.SKIP
    catch_up: CatchUp = CatchUp()
    schedules: tuple[Schedule, ...] = ()
    next_run: datetime | None = None
    """The earliest `next_run` of its active schedules, while the job is active; else None."""
    last_run: datetime | None = None
    """The newest slot that has finished: a hint, written after the finish."""
    last_status: ExecutionStatus | None = None
    revision: int = 1
    """Raised by every edit of a user; firing leaves it alone."""
    created_at: datetime
    updated_at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def folded_name(self) -> str:
        """The name as listings sort and search it. Stored, because they do so on an index."""
        return fold(self.name)

    @property
    def timeout(self) -> timedelta:
        return timedelta(seconds=self.timeout_seconds)


def fold(text: str) -> str:
    """`text` without differences of case and of Unicode's ways to write the same."""
    return unicodedata.normalize("NFKC", text).casefold()


def earliest_next_run(schedules: tuple[Schedule, ...], *, active: bool) -> datetime | None:
    """A job's `next_run`: the minimum over its active schedules, None for an inactive job."""
    next_runs = (s.next_run for s in schedules if s.active and s.next_run is not None)
    return min(next_runs, default=None) if active else None
