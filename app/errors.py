"""The errors that Carillon raises on purpose. Each class has an HTTP status and a stable code.

CarillonError
├── ConfigurationError          the settings are invalid; the process exits with status 1
├── InvalidInputError     422   the request has invalid values; names their fields
├── NotAuthenticatedError 401   no valid credentials
│   └── InvalidTokenError 401   the access token is not valid
│       └── ExpiredTokenError 401 the access token has expired
├── ForbiddenError        403   valid credentials without the necessary permission
├── NotFoundError         404   the object does not exist, or belongs to another owner
├── ConflictError         409   the request conflicts with the current state
│   ├── BusyError         409   other requests changed the object at the same time; try again
│   └── StillRunningError 409   the first request with the same key has no response yet
├── PreconditionError     412   If-Match names another revision
├── TooManyRequestsError  429   too many such requests are in progress; try again later
├── HopsError             508   the request comes from a target that a target has called
├── UnreadableDocumentError 500 a stored document is malformed; only an operator can repair it
└── UnavailableError      503   a store does not respond; try again later
    └── NewerDocumentError 503  a newer release wrote the document
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

_ADVICE = {
    "job": "It is paused. Delete it and create it again, or ask the operator to repair it.",
    "execution": "It does not run. Retention deletes it; the operator can repair or delete it.",
    "idempotency key": "Send the request with another key.",
    "user": "Ask the operator to repair it.",
}
"""What to do about a document of a kind that cannot be read."""


class CarillonError(Exception):
    """Root of the tree.

    `detail` is written for the person who made the request. It says which field is wrong, why,
    and what to write instead. It never repeats a secret.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    retry_after_seconds: ClassVar[int | None] = None
    """When the client may send the same request again; None if waiting does not help."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class ConfigurationError(CarillonError):
    """The settings, or the files and servers that they name, cannot be used.

    Raised at start, and at the end if an embedded server cannot be locked.
    """

    code = "configuration_error"
    title = "Invalid configuration"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One invalid field: `pointer` is a JSON pointer (RFC 6901) into the request."""

    pointer: str
    detail: str


class InvalidInputError(CarillonError):
    """The request has invalid values. `errors` has an entry for each invalid field."""

    status = 422
    code = "invalid_input"
    title = "The request is not valid"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)

    @classmethod
    def at(cls, pointer: str, detail: str) -> "InvalidInputError":
        """Create the error for one field, named by its JSON pointer."""
        return cls(f"{pointer}: {detail}", (FieldError(pointer, detail),))


class NotAuthenticatedError(CarillonError):
    """The credentials are missing, invalid or expired."""

    status = 401
    code = "not_authenticated"
    title = "Not authenticated"

    @property
    def challenge(self) -> str:
        """The value of the header WWW-Authenticate (RFC 6750)."""
        return "Bearer"


class InvalidTokenError(NotAuthenticatedError):
    """The access token is not valid. The detail has only characters that a header may have."""

    @property
    def challenge(self) -> str:
        return f'Bearer error="invalid_token", error_description="{self.detail}"'


class ExpiredTokenError(InvalidTokenError):
    """The access token has expired."""

    code = "token_expired"
    title = "The access token has expired"


class ForbiddenError(CarillonError):
    """The credentials are valid, but do not permit the request."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class NotFoundError(CarillonError):
    """The object does not exist, or belongs to another owner. The response is the same for both."""

    status = 404
    code = "not_found"
    title = "Not found"

    @classmethod
    def of(cls, kind: str) -> "NotFoundError":
        """Create the error for an object of this kind, such as `job`."""
        return cls(f"There is no such {kind}.")


class ConflictError(CarillonError):
    """The request is valid, but conflicts with the current state."""

    status = 409
    code = "conflict"
    title = "Conflict"


class BusyError(ConflictError):
    """Other requests changed the object each time it was to be written."""

    code = "busy"
    title = "Busy"
    retry_after_seconds = 1


class StillRunningError(ConflictError):
    """The first request with the same Idempotency-Key has no response yet."""

    code = "still_running"
    title = "Still running"
    retry_after_seconds = 1


class PreconditionError(CarillonError):
    """`If-Match` names a revision that is not the current one."""

    status = 412
    code = "precondition_failed"
    title = "Changed by somebody else"


class TooManyRequestsError(CarillonError):
    """Too many requests of this kind are in progress. Nothing was done."""

    status = 429
    code = "too_many_requests"
    title = "Too many requests"
    retry_after_seconds = 1


class HopsError(CarillonError):
    """The request comes from a target of this service that another target has called."""

    status = 508
    code = "loop"
    title = "Targets call this service in a loop"


class UnreadableDocumentError(CarillonError):
    """A stored document is not a valid record. `problem` names its fields, for the log."""

    code = "unreadable_document"
    title = "The stored document cannot be read"

    def __init__(self, detail: str, *, problem: str = "") -> None:
        super().__init__(detail)
        self.problem = problem

    @classmethod
    def of(cls, kind: str, document_id: object, problem: str = "") -> "UnreadableDocumentError":
        """Create the error for a document of this kind, such as `job`."""
        named, advice = f"The stored {kind}", _ADVICE[kind]
        if kind != "user":  # the request may come from somebody who is not signed in
            named += f" {document_id}"
        return cls(f"{named} cannot be read. {advice}", problem=problem)


class UnavailableError(CarillonError):
    """A store does not respond in time, or this process must not interpret its documents.

    It may be unknown whether a write was applied.
    """

    status = 503
    code = "unavailable"
    retry_after_seconds = 2
    title = "Temporarily unavailable"


class NewerDocumentError(UnavailableError):
    """A newer release wrote the document; this process must not interpret it."""

    code = "newer_document"
    title = "Written by a newer release"
