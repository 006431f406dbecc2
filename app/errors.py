"""The errors that Carillon raises on purpose. Each has an HTTP status and a stable code.

CarillonError
├── ConfigurationError          the settings cannot work; the process exits with 1
├── InvalidInputError     422   a value from outside is refused; names the fields
├── NotAuthenticatedError 401   no valid credentials
├── ForbiddenError        403   valid credentials, but not allowed
├── NotFoundError         404   no such thing, or somebody else's
├── ConflictError         409   the request does not fit the present state
│   └── StillRunningError 409   the first request with the same key has no answer yet
├── PreconditionError     412   If-Match names another revision
├── TooLargeError         413   the request body is over the limit
└── UnavailableError      503   the database does not answer; try again later
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class CarillonError(Exception):
    """Root of the tree.

    `detail` is written for the person who made the request: it names the field, what is wrong
    and what would be right, and never repeats a secret or the refused input.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    retry_after_seconds: ClassVar[int | None] = None
    """When the same request may succeed, if waiting helps."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class ConfigurationError(CarillonError):
    """The settings, or what they point to, cannot work. Raised at start only."""

    code = "configuration_error"
    title = "The configuration cannot work"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One refused field: `pointer` is a JSON pointer (RFC 6901) into the request."""

    pointer: str
    detail: str


class InvalidInputError(CarillonError):
    """A value from outside is refused. `errors` has an entry for each refused field."""

    status = 422
    code = "invalid_input"
    title = "The request is not valid"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)

    @classmethod
    def at(cls, pointer: str, detail: str) -> "InvalidInputError":
        """The error for one field, named by its JSON pointer."""
        return cls(f"{pointer}: {detail}", (FieldError(pointer, detail),))


class NotAuthenticatedError(CarillonError):
    """No credentials, or credentials that are not (or no longer) valid."""

    status = 401
    code = "not_authenticated"
    title = "Not authenticated"


class ForbiddenError(CarillonError):
    """The credentials are valid but do not allow this."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class NotFoundError(CarillonError):
    """There is no such thing, or it belongs to somebody else: the answer is the same."""

    status = 404
    code = "not_found"
    title = "Not found"


class ConflictError(CarillonError):
    """The request is valid but does not fit the present state."""

    status = 409
    code = "conflict"
    title = "Conflict"


class BusyError(ConflictError):
    """The thing was changed by others each time that it was about to be written."""

    code = "busy"
    title = "Busy"
    retry_after_seconds = 1


class StillRunningError(ConflictError):
    """The first request with the same Idempotency-Key has no answer yet."""

    code = "still_running"
    title = "Still running"
    retry_after_seconds = 1


class PreconditionError(CarillonError):
    """`If-Match` names a revision that is not the present one."""

    status = 412
    code = "precondition_failed"
    title = "Changed by somebody else"


class TooLargeError(CarillonError):
    """The request body is over the limit."""

    status = 413
    code = "too_large"
    title = "Too large"


class UnavailableError(CarillonError):
    """The database did not answer in time. Whether a write was applied may be unknown."""

    status = 503
    code = "unavailable"
    retry_after_seconds = 2
    title = "Temporarily unavailable"
