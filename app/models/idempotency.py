"""Idempotency keys: the request that a client sent with a key, and the response to it."""

from datetime import datetime

from app.models.record import Record


class StoredResponse(Record):
    """The response to a request. It is sent again if the client repeats the request."""

    status: int
    headers: dict[str, str]
    body: bytes


class IdempotencyKey(Record):
    """One user's key, from its first request until it expires."""

    id: str
    """`<user's id>:<key>`."""
    fingerprint: str
    """A hash of the request's method, path, query and body."""
    result_id: str
    """The id of what the request creates. Repeated requests use the same id."""
    holder: str
    """The request that has the key. A request that takes the key over writes a new value."""
    held_until: datetime
    """Without a response, another request may take the key over from this instant on."""
    response: StoredResponse | None = None
    expires_at: datetime


class ReservedId(Record):
    """The id that an idempotency key reserves for what its request creates.

    `again`: an earlier request with this id was started, and its result is unknown.
    """

    result_id: str
    again: bool = False
