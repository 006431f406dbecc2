"""Conditional requests (RFC 9110, 13): `If-Match` on writes, `If-None-Match` on reads."""

from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from app.routers.deps import LOCATION
from app.schemas.etags import Revisions, View, is_unchanged, read_if_match

_JSON = "application/json"
_NOT_MODIFIED = 304
_TAG: dict[str, Any] = {
    "ETag": {
        "description": '`"<revision>-<hash>"` of one thing, `"<hash>"` of a page.',
        "required": True,
        "schema": {"type": "string"},
    }
}
Responses = dict[int | str, dict[str, Any]]
WRITTEN: Responses = {200: {"headers": _TAG}}
READ: Responses = {
    **WRITTEN,
    _NOT_MODIFIED: {"description": "The client has this answer already.", "headers": _TAG},
}
CREATED: Responses = {201: {"headers": _TAG | LOCATION}}
# A browser may keep it, for this user alone, and asks each time whether it has changed.
_CACHE_CONTROL = "private, no-cache"


async def accepted_revisions(
    request: Request,
    _documented: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="The `ETag` of an earlier answer: the write is done only if nobody has "
            "edited the job since, else 412. What the scheduler does to it does not count.",
        ),
    ] = None,
) -> Revisions:
    """The revisions over which the request may write. Raises InvalidInputError."""
    return read_if_match(_joined(request, "if-match"))


IfMatch = Annotated[Revisions, Depends(accepted_revisions)]


async def known_tags(
    request: Request,
    _documented: Annotated[
        str | None,
        Header(
            alias="If-None-Match",
            description="The `ETag` of an earlier answer: 304 without a body if it is the same.",
        ),
    ] = None,
) -> str | None:
    """The tags of the answers that the client has."""
    return _joined(request, "if-none-match")


IfNoneMatch = Annotated[str | None, Depends(known_tags)]


def answer(
    view: View,
    status: int = 200,
    *,
    headers: dict[str, str] | None = None,
    if_none_match: str | None = None,
) -> Response:
    """The view with its tag; 304 if the client has it already."""
    headers = {"ETag": view.etag, "Cache-Control": _CACHE_CONTROL, **(headers or {})}
    if is_unchanged(view.etag, if_none_match):
        return Response(None, _NOT_MODIFIED, headers)
    return Response(view.body, status, headers, _JSON)


def _joined(request: Request, name: str) -> str | None:
    """A header that may be sent in several lines."""
    lines = request.headers.getlist(name)
    return ", ".join(lines) if lines else None
