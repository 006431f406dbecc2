"""Idempotency keys: a request that is sent again is done once and answered the same.

A request reserves its key, acts, and stores its answer. A crash in between leaves a reservation
that ends after a minute; whoever takes it over is given the same id for what it creates, so that
what the first one stored is found and not stored again.
"""

import hashlib
import re
from datetime import datetime, timedelta

import structlog

from app.errors import (
    ConflictError,
    InvalidInputError,
    StillRunningError,
    UnavailableError,
)
from app.models.idempotency import IdempotencyKey, Reserved, StoredResponse
from app.models.ids import NewId
from app.models.user import Actor
from app.repositories.idempotency_keys import IdempotencyKeyRepository

_log = structlog.get_logger(__name__)

KEPT = timedelta(hours=24)
HELD = timedelta(seconds=60)
"""Longer than any request takes: each of its few database calls ends within seconds."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_MOST_TRIES = 5  # each lost to another request with the key
_REFUSED_UNDONE = frozenset({400, 401, 403, 408, 412, 413, 415, 422, 429})
"""Answers to what was refused before anything was done: the key may be used again."""
_FIRST_SERVER_ERROR = 500


class Reservation:
    """The right to act under a key. End it with `IdempotencyService.finish`."""

    def __init__(self, key: IdempotencyKey, *, again: bool) -> None:
        self.key = key
        self.reserved = Reserved(result_id=key.result_id, again=again)


class IdempotencyService:
    """Keys of users. Every method may raise UnavailableError."""

    def __init__(self, *, keys: IdempotencyKeyRepository, new_id: NewId) -> None:
        self._keys = keys
        self._new_id = new_id

    async def begin(self, actor: Actor, key: str, request: bytes) -> Reservation | StoredResponse:
        """Reserve the key for the request, or give the answer that it got before.

        Raises InvalidInputError for what cannot be a key, ConflictError if it came with another
        request before, and StillRunningError while that one is being worked on.
        """
        if not _KEY.fullmatch(key):
            raise InvalidInputError.at(
                "/header/Idempotency-Key", "a key is 1 to 255 visible ASCII characters"
            )
        fingerprint = hashlib.sha256(request).hexdigest()
        for _ in range(_MOST_TRIES):
            now = await self._keys.now()
            fresh = self._fresh(actor, key, fingerprint, now)
            if await self._keys.insert(fresh):
                return Reservation(fresh, again=False)
            present = await self._keys.find(fresh.id)
            if present is None:  # it has expired just now
                continue
            found = await self._take_over(present, fresh, now)
            if found is not None:
                return found
        raise StillRunningError("Another request with this Idempotency-Key is being worked on.")

    async def finish(self, reservation: Reservation, answer: StoredResponse | None) -> None:
        """Store the answer, or let the key be used again where nothing was done.

        After None or an answer of 500 and above it is unknown what was done: the key stays bound
        to its request, which may be sent again at once. An outage here is only logged: what was
        done is done, and the client shall know it.
        """
        key = reservation.key
        try:
            if answer is None or answer.status >= _FIRST_SERVER_ERROR:
                released = key.model_copy(update={"held_until": key.expires_at - KEPT})
                await self._keys.replace(released, expected=key)
            elif answer.status in _REFUSED_UNDONE or "retry-after" in answer.headers:
                await self._keys.delete(key)
            else:
                await self._keys.answer(key, answer)
        except UnavailableError as error:
            _log.warning("idempotency_key_not_finished", error=error.detail)

    async def _take_over(
        self, present: IdempotencyKey, fresh: IdempotencyKey, now: datetime
    ) -> Reservation | StoredResponse | None:
        """What a key that was used before gives; None if another request was faster."""
        if present.expires_at <= now:  # the TTL index is up to a minute late
            won = await self._keys.replace(fresh, expected=present)
            return Reservation(fresh, again=False) if won else None
        if present.fingerprint != fresh.fingerprint:
            raise ConflictError(
                "This Idempotency-Key came with another request before; use a new key."
            )
        if present.answer is not None:
            return present.answer
        if present.held_until > now:
            raise StillRunningError("The first request with this Idempotency-Key is still running.")
        held = present.model_copy(update={"holder": fresh.holder, "held_until": fresh.held_until})
        won = await self._keys.replace(held, expected=present)
        return Reservation(held, again=True) if won else None

    def _fresh(self, actor: Actor, key: str, fingerprint: str, now: datetime) -> IdempotencyKey:
        return IdempotencyKey(
            id=f"{actor.user_id}:{key}",
            fingerprint=fingerprint,
            result_id=self._new_id(),
            holder=self._new_id(),
            held_until=now + HELD,
            expires_at=now + KEPT,
        )
