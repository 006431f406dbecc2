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
WRITE_RESPONSES: Responses = {200: {"headers": _TAG}}
READ_RESPONSES: Responses = {
    **WRITE_RESPONSES,
    _NOT_MODIFIED: {"description": "The response is the one that the client has.", "headers": _TAG},
}
CREATE_RESPONSES: Responses = {201: {"headers": _TAG | LOCATION}}
# A browser may store the response, for this user only, and must revalidate it each time.
_CACHE_CONTROL = "private, no-cache"


async def read_if_match_header(
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
    return read_if_match(_join_header(request, "if-match"))


IfMatch = Annotated[Revisions, Depends(read_if_match_header)]


async def read_if_none_match_header(
    request: Request,
    _documented: Annotated[
        str | None,
        Header(
            alias="If-None-Match",
            description="The `ETag` of an earlier response. If the response has not changed, the "
            "status is 304 and there is no body.",
        ),
    ] = None,
) -> str | None:
    """The entity tags of the responses that the client has."""
    return _join_header(request, "if-none-match")


IfNoneMatch = Annotated[str | None, Depends(read_if_none_match_header)]


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


def _join_header(request: Request, name: str) -> str | None:
    """The value of a header that may have several lines."""
    lines = request.headers.getlist(name)
    return ", ".join(lines) if lines else None
