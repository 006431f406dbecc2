"""The http target: an attempt is one HTTP request."""

from datetime import timedelta
from http import HTTPStatus

import aiohttp

from app.clock import Clock
from app.models.execution import AttemptOutcome, Response
from app.models.outcome import Failure, Outcome
from app.models.target import HttpTargetSpec
from app.targets.http_message import (
    parse_retry_after,
    read_response,
    request_body,
    request_headers,
)
from app.targets.target import Delivery

RETRY_AFTER_STATUSES = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class HttpTarget:
    """Sends attempts through one session, which must come from `egress.open_session`: that one
    decides where a request may go."""

    def __init__(self, *, session: aiohttp.ClientSession, clock: Clock, version: str) -> None:
        self._session = session
        self._clock = clock
        self._user_agent = f"Carillon/{version}"

    async def deliver(self, spec: HttpTargetSpec, delivery: Delivery) -> Outcome:
        try:
            # One timeout covers the whole exchange: with a limit on each read, a receiver that
            # sends one byte a second could occupy the attempt for hours.
            async with self._clock.timeout(delivery.timeout):
                return await self._exchange(spec, delivery)
        except TimeoutError:
            return Outcome(
                AttemptOutcome.TIMED_OUT,
                failure=Failure.TIMEOUT,
                error=f"no complete response within {delivery.timeout.total_seconds():g} s",
            )

    async def _exchange(self, spec: HttpTargetSpec, delivery: Delivery) -> Outcome:
        try:
            async with await self._send(spec, delivery) as answer:
                response = await read_response(answer)
                retry_after = self._retry_after(answer)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            return _failed(Failure.REFUSED, "the URL cannot be used")
        except (aiohttp.ClientError, OSError) as error:
            return _failed(Failure.CONNECTION_ERROR, _describe(error))
        except _UnsendableError:
            return _failed(Failure.REFUSED, "the request cannot be sent as it is defined")
        return _judge(spec, response, retry_after)

    async def _send(self, spec: HttpTargetSpec, delivery: Delivery) -> aiohttp.ClientResponse:
        body, content_type = request_body(spec, delivery)
        headers = request_headers(
            spec, delivery, content_type=content_type, user_agent=self._user_agent
        )
        try:
            return await self._session.request(
                spec.method.value, spec.url, data=body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError):
            raise  # some of them are a ValueError too, certificate errors for example
        except ValueError as error:
            # How aiohttp and the resolver refuse a header value or a host name.
            raise _UnsendableError from error

    def _retry_after(self, answer: aiohttp.ClientResponse) -> timedelta | None:
        if answer.status not in RETRY_AFTER_STATUSES:
            return None
        return parse_retry_after(answer.headers.get("Retry-After"), self._clock.now())


class _UnsendableError(Exception):
    """The request could not be put together."""


def _judge(spec: HttpTargetSpec, response: Response, retry_after: timedelta | None) -> Outcome:
    """What a complete answer means."""
    status = response.status or 0
    succeeded = (
        200 <= status <= 299 if spec.success_statuses is None else status in spec.success_statuses
    )
    if succeeded:
        return Outcome(AttemptOutcome.SUCCEEDED, response=response)
    error = f"the target answered {status}"
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


def _failed(failure: Failure, error: str) -> Outcome:
    return Outcome(AttemptOutcome.FAILED, failure=failure, error=error)


def _describe(error: Exception) -> str:
    """What the job's owner may know. A name that does not exist, an address that is blocked and one
    where nothing listens read the same, or a job could be used to map the network around us."""
    match error:
        case aiohttp.ClientSSLError():
            return "the TLS handshake failed"
        case aiohttp.ClientConnectorError():
            return "could not connect"
        case aiohttp.ClientResponseError():
            return "the answer is not valid HTTP"
        case _:
            return "the connection broke before the answer was complete"
