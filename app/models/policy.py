"""The policies of a job as the user states them: overlap, catch-up and retry."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from app.models.record import Record


class OverlapPolicy(StrEnum):
    """What happens to a slot whose job still has a live execution. The names are Temporal's."""

    SKIP = "skip"
    """The slot is recorded as skipped."""
    BUFFER_ONE = "buffer_one"
    """One slot waits for the live execution to end; more are skipped."""
    BUFFER_ALL = "buffer_all"
    """Up to 100 slots wait, in order."""
    CANCEL_OTHER = "cancel_other"
    """The live execution is asked to stop; the slot runs after it."""
    TERMINATE_OTHER = "terminate_other"
    """The live execution is ended at once; the slot runs."""
    ALLOW_ALL = "allow_all"
    """Executions run side by side."""


class CatchUpPolicy(StrEnum):
    """What happens to slots that are recorded late, after an outage."""

    ONE = "one"
    """The latest late slot of each schedule runs."""
    ALL = "all"
    """Each late slot within the window runs, in order."""
    NONE = "none"
    """No late slot runs."""


class CatchUp(Record):
    """How slots are treated that nobody recorded in time."""

    model_config = ConfigDict(extra="forbid")

    policy: CatchUpPolicy = CatchUpPolicy.ONE
    window_seconds: Annotated[int, Field(ge=0, le=31_536_000)] = 86_400
    """How far back a late slot may lie and still run, in seconds."""

    @property
    def window(self) -> timedelta:
        return timedelta(seconds=self.window_seconds)


class RetryStrategy(StrEnum):
    """How the delay between attempts grows."""

    FIXED = "fixed"
    """The same delay every time."""
    EXPONENTIAL = "exponential"
    """Twice the delay after each attempt, up to a maximum."""


RetryReason = Literal["timeout", "connection_error", "4xx", "5xx"]
StatusCode = Annotated[int, Field(ge=100, le=599)]


class RetryPolicy(Record):
    """When a failed attempt is tried again."""

    model_config = ConfigDict(extra="forbid")

    max_attempts: Annotated[int, Field(ge=1, le=50)] = 3
    """Attempts in all, the first included. With 50 full responses a record stays under MongoDB's
    limit of 16 MB for a document."""
    strategy: RetryStrategy = RetryStrategy.EXPONENTIAL
    delay_seconds: Annotated[float, Field(ge=0, le=86_400)] = 5
    max_delay_seconds: Annotated[float, Field(ge=0, le=604_800)] = 300
    retry_on: Annotated[tuple[RetryReason | StatusCode, ...], Field(max_length=50)] | None = None
    """Which failures are tried again; None means every failure."""

    @property
    def delay(self) -> timedelta:
        return timedelta(seconds=self.delay_seconds)

    @property
    def max_delay(self) -> timedelta:
        return timedelta(seconds=self.max_delay_seconds)
