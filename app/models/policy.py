"""The policies of a job: overlap, catch-up and retry."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field

from app.models.record import Record
from app.models.schedule import MAX_INTERVAL_SECONDS
from app.models.target import FIRST_STATUS_CODE, LAST_STATUS_CODE

MAX_CATCH_UP_SECONDS = MAX_INTERVAL_SECONDS
"""The longest interval, so that a window can always contain one period."""


class OverlapPolicy(StrEnum):
    """What happens to a slot whose job still has a live execution. The names are Temporal's."""

    SKIP = "skip"
    """The slot is recorded as skipped."""
    BUFFER_ONE = "buffer_one"
    """One slot waits until the live execution ends; further slots are skipped."""
    BUFFER_ALL = "buffer_all"
    """Up to 100 slots wait, in order."""
    CANCEL_OTHER = "cancel_other"
    """The live execution is cancelled; the slot is executed after its end."""
    TERMINATE_OTHER = "terminate_other"
    """The live execution ends immediately; the slot is executed."""
    ALLOW_ALL = "allow_all"
    """Executions run side by side."""


class CatchUpMode(StrEnum):
    """What happens to late slots: no process was scheduling at their time."""

    ONE = "one"
    """The latest late slot of each schedule and outage is executed, if it is in the window."""
    ALL = "all"
    """Each late slot in the window is executed, in order; at most the latest 1,000 per outage."""
    NONE = "none"
    """No late slot is executed."""


class CatchUpPolicy(Record):
    """What happens to late slots: no process was scheduling at their time."""

    model_config = ConfigDict(extra="forbid")

    policy: CatchUpMode = CatchUpMode.ONE
    window_seconds: Annotated[int, Field(ge=0, le=MAX_CATCH_UP_SECONDS)] = 86_400
    """The maximum age of a late slot that is still executed, in seconds before the end of the
    outage."""

    @property
    def window(self) -> timedelta:
        return timedelta(seconds=self.window_seconds)


class RetryStrategy(StrEnum):
    """How the delay between attempts grows."""

    FIXED = "fixed"
    """The delay stays the same."""
    EXPONENTIAL = "exponential"
    """The delay doubles after each attempt, up to a maximum."""


RetryReason = Literal["timeout", "connection_error", "4xx", "5xx"]
RETRY_REASONS: tuple[str, ...] = get_args(RetryReason)
StatusCode = Annotated[int, Field(ge=FIRST_STATUS_CODE, le=LAST_STATUS_CODE)]


class RetryPolicy(Record):
    """When another attempt follows a failed one."""

    model_config = ConfigDict(extra="forbid")

    max_attempts: Annotated[int, Field(ge=1, le=50)] = 3
    """The maximum number of attempts, including the first. Attempts that a shutdown stopped do not
    count. With 50 responses of the maximum size a record stays below MongoDB's limit of 16 MB for a
    document."""
    strategy: RetryStrategy = RetryStrategy.EXPONENTIAL
    delay_seconds: Annotated[float, Field(ge=0, le=86_400)] = 5
    max_delay_seconds: Annotated[float, Field(ge=0, le=604_800)] = 300
    retry_on: Annotated[tuple[RetryReason | StatusCode, ...], Field(max_length=50)] | None = None
    """The failures after which another attempt follows. None: all. Status 410 and a request
    that cannot be sent are never retried."""

    @property
    def delay(self) -> timedelta:
        return timedelta(seconds=self.delay_seconds)

    @property
    def max_delay(self) -> timedelta:
        return timedelta(seconds=self.max_delay_seconds)
