"""`Idempotency-Key` on every POST: the same request is done once and answered the same."""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.errors import CarillonError
from app.models.idempotency import Reserved, StoredResponse
from app.models.user import Actor
from app.routers.problems import answer_to
from app.runtime import Runtime

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_KEPT_HEADERS = ("content-type", "location", "etag", "cache-control", "retry-after")

Handler = Callable[[Request], Awaitable[Response]]


async def key_header(
    key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            description="For a safe retry: the same key and body give the same answer for 24 h. "
            "1 to 255 visible ASCII characters.",
            json_schema_extra={"minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        ),
    ] = None,
) -> None:
    """For the documentation; `answer_once` reads the header before the body is parsed."""


async def reserved_by_key(request: Request) -> Reserved | None:
    """The id that the request's key has reserved for what it creates; None without a key."""
    return getattr(request.state, "reserved", None)


ReservedDep = Annotated[Reserved | None, Depends(reserved_by_key)]


async def answer_once(request: Request, actor: Actor, handler: Handler) -> Response:
    """The handler's answer, or the one that an earlier request with the same key got."""
    key = request.headers.get(HEADER)
    if key is None:
        return await handler(request)
    runtime: Runtime = request.app.state.runtime
    begun = await runtime.idempotency.begin(actor, key, await _request_bytes(request))
    if isinstance(begun, StoredResponse):
        return Response(begun.body, begun.status, {**begun.headers, REPLAYED: "true"})
    request.state.reserved = begun.reserved
    answer: Response | None = None
    try:
        answer = await _answer(request, handler)
    finally:
        await runtime.idempotency.finish(begun, _stored(answer))
    return answer


async def _answer(request: Request, handler: Handler) -> Response:
    """Errors are answers too; a bug is not, it goes on to its own handler."""
    try:
        return await handler(request)
    except (CarillonError, RequestValidationError, HTTPException) as error:
        return await answer_to(request, error)


async def _request_bytes(request: Request) -> bytes:
    """What makes two requests the same."""
    scope = request.scope
    head = [request.method, scope["path"], scope["query_string"].decode("latin-1")]
    return json.dumps(head).encode() + await request.body()


def _stored(answer: Response | None) -> StoredResponse | None:
    if answer is None:
        return None
    headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
    return StoredResponse(status=answer.status_code, headers=headers, body=bytes(answer.body))
