"""The http target: an attempt is one HTTP request."""

from datetime import timedelta
from http import HTTPStatus

import aiohttp

from app.clock import Clock
from app.models.execution import AttemptOutcome, TargetResponse
from app.models.outcome import Failure, Outcome
from app.models.target import HttpTargetSpec
from app.targets.egress import EgressDeniedError, connect_for
from app.targets.http_message import (
    build_body,
    build_headers,
    parse_retry_after,
    read_response,
)
from app.targets.protocol import ResponseError
from app.targets.received_bytes import TOO_MANY_BYTES, ReceiveLimit
from app.targets.resolver import look_up_for
from app.targets.target import Delivery

RETRY_AFTER_STATUSES = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})

_DENIED = (
    "could not connect: this service does not call the address of this host"
    " (HTTP_ALLOW_PRIVATE_HOSTS, HTTP_DENY_NETWORKS)"
)


class HttpTarget:
    """Sends attempts through one session. The session must come from `session.open_session`, which
    decides which addresses a request may reach."""

    def __init__(self, *, session: aiohttp.ClientSession, clock: Clock, version: str) -> None:
        self._session = session
        self._clock = clock
        self._user_agent = f"Carillon/{version}"
        self._receive_limit = ReceiveLimit(clock)

    async def deliver(self, spec: HttpTargetSpec, delivery: Delivery) -> Outcome:
        try:
            # One timeout covers the whole exchange: with a limit on each read, a receiver that
            # sends one byte per second could occupy the attempt for hours.
            async with self._clock.timeout(delivery.timeout):
                with self._receive_limit.apply() as received:
                    outcome = await self._exchange(spec, delivery)
        except TimeoutError:
            return Outcome(
                AttemptOutcome.TIMED_OUT,
                failure=Failure.TIMEOUT,
                error=f"no complete response within {delivery.timeout.total_seconds():g} s",
            )
        if received.exceeded:
            return _build_failure(Failure.CONNECTION_ERROR, TOO_MANY_BYTES)
        return outcome

    async def _exchange(self, spec: HttpTargetSpec, delivery: Delivery) -> Outcome:
        try:
            async with await self._send(spec, delivery) as received:
                response = await read_response(received)
                retry_after = self._read_retry_after(received)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            return _build_failure(Failure.REFUSED, "the URL cannot be used")
        except (aiohttp.ClientError, OSError) as error:
            return _build_failure(Failure.CONNECTION_ERROR, _describe(error))
        except _UnsendableError:
            return _build_failure(Failure.REFUSED, "the request cannot be sent as it is defined")
        return _decide_outcome(spec, response, retry_after)

    async def _send(self, spec: HttpTargetSpec, delivery: Delivery) -> aiohttp.ClientResponse:
        body, content_type = build_body(spec, delivery)
        headers = build_headers(
            spec, delivery, content_type=content_type, user_agent=self._user_agent
        )
        try:
            with (
                look_up_for(delivery.owner_id),
                connect_for(job_id=delivery.job_id, owner_id=delivery.owner_id),
            ):
                return await self._session.request(
                    spec.method.value, spec.url, data=body, headers=headers, allow_redirects=False
                )
        except (aiohttp.ClientError, OSError):
            raise  # Some connection errors, such as certificate errors, are also ValueErrors.
        except ValueError as error:
            # aiohttp and the resolver reject header values and host names by a ValueError.
            raise _UnsendableError from error

    def _read_retry_after(self, received: aiohttp.ClientResponse) -> timedelta | None:
        if received.status not in RETRY_AFTER_STATUSES:
            return None
        return parse_retry_after(received.headers.get("Retry-After"), self._clock.now())


class _UnsendableError(Exception):
    """No HTTP request can be built from the job's definition."""


def _decide_outcome(
    spec: HttpTargetSpec, response: TargetResponse, retry_after: timedelta | None
) -> Outcome:
    """Return the outcome of an attempt that got a complete response."""
    status = response.status or 0
    succeeded = (
        200 <= status <= 299 if spec.success_statuses is None else status in spec.success_statuses
    )
    if succeeded:
        return Outcome(AttemptOutcome.SUCCEEDED, response=response)
    error = f"the target responded with status {status}"
    if 300 <= status <= 399:
        error += "; redirects are not followed"
    return Outcome(
        AttemptOutcome.FAILED,
        failure=Failure.STATUS,
        error=error,
        response=response,
        retry_after=retry_after,
        gone=status == HTTPStatus.GONE,
    )


def _build_failure(failure: Failure, error: str) -> Outcome:
    return Outcome(AttemptOutcome.FAILED, failure=failure, error=error)


def _describe(error: Exception) -> str:
    """Return the text of an error that the job's owner may see.

    The text is the same for a name that does not exist and an address where no server listens, and
    the same for all addresses that the policy denies. Otherwise a job could be used to explore the
    network of the service.
    """
    match error:
        case aiohttp.ClientConnectorError(os_error=EgressDeniedError()):
            return _DENIED
        case aiohttp.ClientSSLError():
            return "the TLS handshake failed"
        case aiohttp.ClientConnectorError():
            return "could not connect"
        case ResponseError():
            return str(error)
        case aiohttp.ClientResponseError():
            return "the response is not valid HTTP"
        case _:
            return "the connection broke before the response was complete"
