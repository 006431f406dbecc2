"""Idempotency keys: what a client's key stands for, and the answer that it got."""

from datetime import datetime

from app.models.record import Record


class StoredResponse(Record):
    """An answer as it is given again."""

    status: int
    headers: dict[str, str]
    body: bytes


class IdempotencyKey(Record):
    """One user's key, from its first request until it expires."""

    id: str
    """`<user's id>:<key>`."""
    fingerprint: str
    """Of the request: method, path, query and body."""
    result_id: str
    """The id of what the request creates, the same however often it has to be begun."""
    holder: str
    """Who has the key: every request that takes it over writes another one."""
    held_until: datetime
    """While there is no answer: when the next request with the key may begin again."""
    answer: StoredResponse | None = None
    expires_at: datetime


class Reserved(Record):
    """What a request under a key is given: the id of what it creates.

    `again`: an earlier request with this id was begun and its end is unknown.
    """

    result_id: str
    again: bool = False
