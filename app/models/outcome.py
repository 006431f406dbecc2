"""How an attempt ended: the value that a target returns and the retry policy decides by."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from app.models.execution import AttemptOutcome, TargetResponse


class Failure(StrEnum):
    """Why an attempt did not succeed. `retry_on` uses some of these names."""

    TIMEOUT = "timeout"
    """No complete response arrived within the timeout."""
    CONNECTION_ERROR = "connection_error"
    """The connection was not made, or it was lost."""
    STATUS = "status"
    """The status of the response is not a success."""
    REFUSED = "refused"
    """The request was not sent, because the job's target cannot be used. It is not retried."""
    BUG = "bug"
    """The target's code raised an unexpected exception."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one delivery. `error` is a short text for the job's owner, without secrets."""

    outcome: AttemptOutcome
    failure: Failure | None = None
    error: str | None = None
    response: TargetResponse | None = None
    retry_after: timedelta | None = None
    """The delay before the next attempt that the receiver asked for."""
    gone: bool = False
    """The receiver responded 410, so the job must be paused."""
