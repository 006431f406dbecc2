"""Idempotency keys: a request that is sent again takes effect once and gets the same response.

A request reserves its key, takes effect, and stores its response. After a crash in between, the
reservation ends after a minute. The next request with the key takes the reservation over, with
the same id for what it creates, so that nothing is stored twice.
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
from app.models.idempotency import IdempotencyKey, ReservedId, StoredResponse
from app.models.ids import NewId
from app.models.user import Actor
from app.repositories.idempotency_keys import IdempotencyKeyRepository

_log = structlog.get_logger(__name__)

KEPT = timedelta(hours=24)
HELD = timedelta(seconds=60)
"""How long a request holds its key. If a request takes longer, a repeated request with the key is
executed as well. It uses the same id, so nothing is stored twice, because ids are unique."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_MAX_TRIES = 5  # a try fails if another request with the key writes at the same time
_WITHOUT_EFFECT = frozenset({400, 401, 403, 408, 412, 413, 415, 422, 429, 508})
"""The statuses of requests that were rejected before they had an effect. The key may be used
again."""
_FIRST_SERVER_ERROR = 500


class Reservation:
    """The right to execute the request of a key. `IdempotencyService.finish` ends it."""

    def __init__(self, key: IdempotencyKey, *, again: bool) -> None:
        self.key = key
        self.reserved = ReservedId(result_id=key.result_id, may_exist=again)


class IdempotencyService:
    """Reserves keys of users and stores responses. Every method may raise UnavailableError."""

    def __init__(self, *, keys: IdempotencyKeyRepository, new_id: NewId) -> None:
        self._keys = keys
        self._new_id = new_id

    async def begin(self, actor: Actor, key: str, request: bytes) -> Reservation | StoredResponse:
        """Reserve the key for the request, or return the stored response to it.

        Raises InvalidInputError for an invalid key, ConflictError if the key belongs to another
        request, and StillRunningError while the first request is running.
        """
        if not _KEY.fullmatch(key):
            raise InvalidInputError.at(
                "/header/Idempotency-Key", "a key has 1 to 255 visible ASCII characters"
            )
        fingerprint = hashlib.sha256(request).hexdigest()
        for _ in range(_MAX_TRIES):
            now = await self._keys.now()
            fresh = self._new_key(actor, key, fingerprint, now)
            if await self._keys.insert(fresh):
                return Reservation(fresh, again=False)
            present = await self._keys.find(fresh.id)
            if present is None:  # it has expired in between
                continue
            found = await self._take_over(present, fresh, now)
            if found is not None:
                return found
        raise _still_running()

    async def finish(self, reservation: Reservation, response: StoredResponse | None) -> None:
        """Store the response, or free the key if the request had no effect.

        If the request raised an error (`response` is None) or returned a status of 500 or above,
        its effect is unknown: the key stays bound to the request, which may be sent again
        immediately. A response with Retry-After also frees the key.

        An outage is only logged, because the request has taken effect and the client must get its
        response.
        """
        key = reservation.key
        try:
            if response is not None and response.status in _WITHOUT_EFFECT:
                await self._keys.delete(key)
            elif response is None or response.status >= _FIRST_SERVER_ERROR:
                # The instant of the reservation: the key is no longer held.
                released = key.model_copy(update={"held_until": key.expires_at - KEPT})
                await self._keys.replace(released, expected=key)
            elif "retry-after" in response.headers:
                await self._keys.delete(key)
            else:
                await self._keys.store_response(key, response)
        except UnavailableError as error:
            _log.warning("idempotency_key_not_finished", error=error.detail)

    async def _take_over(
        self, present: IdempotencyKey, fresh: IdempotencyKey, now: datetime
    ) -> Reservation | StoredResponse | None:
        """The reservation or response of a key that exists; None if another request has changed it
        in between."""
        if present.expires_at <= now:  # the TTL index deletes up to a minute late
            won = await self._keys.replace(fresh, expected=present)
            return Reservation(fresh, again=False) if won else None
        if present.fingerprint != fresh.fingerprint:
            raise ConflictError(
                "This Idempotency-Key was used with another request before; use a new key."
            )
        if present.response is not None:
            return present.response
        if present.held_until > now:
            raise _still_running()
        held = present.model_copy(update={"holder": fresh.holder, "held_until": fresh.held_until})
        won = await self._keys.replace(held, expected=present)
        return Reservation(held, again=True) if won else None

    def _new_key(self, actor: Actor, key: str, fingerprint: str, now: datetime) -> IdempotencyKey:
        return IdempotencyKey(
            id=f"{actor.user_id}:{key}",
            fingerprint=fingerprint,
            result_id=self._new_id(),
            holder=self._new_id(),
            held_until=now + HELD,
            expires_at=now + KEPT,
        )


def _still_running() -> StillRunningError:
    return StillRunningError(
        "Another request with this Idempotency-Key is still running; send this one again later."
    )
