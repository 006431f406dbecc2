"""Responses, and conditional requests (RFC 9110, 13): `If-Match` on writes, `If-None-Match` on
reads."""

from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from app.routers.deps import LOCATION
from app.schemas.etags import Revisions, is_unchanged, read_if_match
from app.schemas.response_bodies import ResponseBody

_JSON = "application/json"
_NOT_MODIFIED = 304
_TAG: dict[str, Any] = {
    "ETag": {
        "description": '`"<revision>-<hash>"` of one item, `"<hash>"` of a page.',
        "required": True,
        "schema": {"type": "string"},
    }
}
Responses = dict[int | str, dict[str, Any]]
WRITTEN: Responses = {200: {"headers": _TAG}}
READ: Responses = {
    **WRITTEN,
    _NOT_MODIFIED: {"description": "The response is the one that the client has.", "headers": _TAG},
}
CREATED: Responses = {201: {"headers": _TAG | LOCATION}}
# A browser may store the response, for this user only, and must revalidate it each time.
_CACHE_CONTROL = "private, no-cache"


async def accepted_revisions(
    request: Request,
    _documented: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="The `ETag` of an earlier response. The write takes effect only if nobody "
            "has edited the job since, else 412. Changes by the scheduler do not count.",
        ),
    ] = None,
) -> Revisions:
    """The revisions that the request may replace. Raises InvalidInputError."""
    return read_if_match(_joined(request, "if-match"))


IfMatch = Annotated[Revisions, Depends(accepted_revisions)]


async def known_tags(
    request: Request,
    _documented: Annotated[
        str | None,
        Header(
            alias="If-None-Match",
            description="The `ETag` of an earlier response. 304 without a body if it is the same.",
        ),
    ] = None,
) -> str | None:
    """The entity tags of the responses that the client has."""
    return _joined(request, "if-none-match")


IfNoneMatch = Annotated[str | None, Depends(known_tags)]


def respond(
    body: ResponseBody,
    status: int = 200,
    *,
    headers: dict[str, str] | None = None,
    if_none_match: str | None = None,
) -> Response:
    """The response with this body; 304 if the client has a body with the same entity tag."""
    if body.etag is None:
        return Response(body.content, status, headers, _JSON)
    headers = {"ETag": body.etag, "Cache-Control": _CACHE_CONTROL, **(headers or {})}
    if is_unchanged(body.etag, if_none_match):
        return Response(None, _NOT_MODIFIED, headers)
    return Response(body.content, status, headers, _JSON)


def _joined(request: Request, name: str) -> str | None:
    """The value of a header that may have several lines."""
    lines = request.headers.getlist(name)
    return ", ".join(lines) if lines else None
