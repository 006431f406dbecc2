"""Idempotency keys: the request that a client's key stands for, and the response to it."""

from datetime import datetime

from app.models.record import Record


class StoredResponse(Record):
    """A response that is sent again when its request is sent again."""

    status: int
    headers: dict[str, str]
    body: bytes


class IdempotencyKey(Record):
    """One user's key, from its first request until it expires."""

    id: str
    """`<user's id>:<key>`."""
    fingerprint: str
    """Hash of the request: method, path, query and body."""
    result_id: str
    """The id of what the request creates. Every try of the request uses the same one."""
    holder: str
    """The request that has the key. A request that takes the key over writes a new value."""
    held_until: datetime
    """Without a response: from then on another request may take the key over."""
    response: StoredResponse | None = None
    expires_at: datetime


class Reserved(Record):
    """The id that an idempotency key reserves for what its request creates.

    `again`: an earlier try with this id has started, and its result is unknown.
    """

    result_id: str
    again: bool = False
