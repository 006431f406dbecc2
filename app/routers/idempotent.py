"""`Idempotency-Key` on every POST that needs a token: a repeated request takes effect once and gets
the same response."""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.errors import CarillonError
from app.models.execution import HOPS_HEADER
from app.models.idempotency import ReservedId, StoredResponse
from app.models.user import Actor
from app.routers.deps import runtime_of
from app.routers.problems import build_problem_response

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_KEPT_HEADERS = ("content-type", "location", "etag", "cache-control", "retry-after")

Handler = Callable[[Request], Awaitable[Response]]


async def key_header(
    key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            description="Repeat a request safely: the same key with the same method, path, "
            f"query, {HOPS_HEADER} and body returns the stored response for 24 hours. "
            "1 to 255 visible ASCII characters.",
            json_schema_extra={"minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        ),
    ] = None,
) -> None:
    """Documents the header. `handle_once` reads it before the body is parsed."""


async def reserved_by_key(request: Request) -> ReservedId | None:
    """The id that the key reserves for what the request creates; None without a key."""
    return getattr(request.state, "reserved", None)


ReservedIdDep = Annotated[ReservedId | None, Depends(reserved_by_key)]


async def handle_once(request: Request, actor: Actor, handler: Handler) -> Response:
    """The handler's response, or the stored response to an earlier request with the same key."""
    key = request.headers.get(HEADER)
    if key is None:
        return await handler(request)
    runtime = await runtime_of(request.scope)
    content = await _request_bytes(request)
    reservation_or_response = await runtime.idempotency.begin(actor, key, content)
    if isinstance(reservation_or_response, StoredResponse):
        stored = reservation_or_response
        return Response(stored.body, stored.status, {**stored.headers, REPLAYED: "true"})
    reservation = reservation_or_response
    request.state.reserved = reservation.reserved
    response: Response | None = None
    try:
        response = await _handle(request, handler)
    finally:
        await runtime.idempotency.finish(reservation, _to_stored(response))
    return response


async def _handle(request: Request, handler: Handler) -> Response:
    """Turn expected errors into responses. Other exceptions are bugs, which are not caught."""
    try:
        return await handler(request)
    except (CarillonError, RequestValidationError, HTTPException) as error:
        return await build_problem_response(request, error)


async def _request_bytes(request: Request) -> bytes:
    """Method, path, query, hops and body as bytes. Two requests are the same if these bytes are
    equal."""
    scope = request.scope
    head = [request.method, scope["path"], scope["query_string"].decode("latin-1")]
    head += request.headers.getlist(HOPS_HEADER)
    return json.dumps(head).encode() + await request.body()


def _to_stored(response: Response | None) -> StoredResponse | None:
    if response is None:
        return None
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    return StoredResponse(status=response.status_code, headers=headers, body=bytes(response.body))
