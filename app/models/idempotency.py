"""Idempotency keys: the request that a client sent with a key, and the response to it."""

from app.models.record import Instant, Record


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
    """A random id of the request that has reserved the key. A request that takes the key over
    writes a new id."""
    held_until: Instant
    """Without a response, another request may take the key over from this instant on."""
    response: StoredResponse | None = None
    expires_at: Instant


class ReservedId(Record):
    """The id that an idempotency key reserves for what its request creates.

    `may_exist`: an earlier request may have created the item with this id already.
    """

    result_id: str
    may_exist: bool = False
