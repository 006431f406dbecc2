"""How a delivery ended: the value that a target returns and the retry policy decides on."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from app.models.execution import AttemptOutcome, Response


class Failure(StrEnum):
    """Why a delivery did not succeed, as `retry_on` names it."""

    TIMEOUT = "timeout"
    """No complete answer within the timeout."""
    CONNECTION_ERROR = "connection_error"
    """No connection, or it broke."""
    STATUS = "status"
    """An answer whose status is not a success."""
    REFUSED = "refused"
    """Never sent: the job's target cannot be used. No retry helps."""
    BUG = "bug"
    """The target's code failed in a way nobody foresaw."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one delivery. `error` is one sentence for the job's owner, without secrets."""

    outcome: AttemptOutcome
    failure: Failure | None = None
    error: str | None = None
    response: Response | None = None
    retry_after: timedelta | None = None
    """How long the receiver asked to be left alone."""
    gone: bool = False
    """The receiver said 410: the job is to be paused."""
