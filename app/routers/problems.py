"""Error responses as problem details (RFC 9457), and their OpenAPI documentation."""

import http
import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from app.errors import (
    CarillonError,
    ConflictError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    NotAuthenticatedError,
    NotFoundError,
    PreconditionError,
    TooManyRequestsError,
    UnavailableError,
    UnreadableDocumentError,
)
from app.schemas.json_types import UNSTORABLE_TEXT
from app.schemas.problems import PROBLEM_JSON
from app.schemas.unknown_fields import explain_missing_type, explain_unknown_field

_log = structlog.get_logger(__name__)

_MAX_POINTER_LENGTH = 300
_MAX_FIELD_ERRORS = 50
_MAX_SUGGESTIONS = 10
_SUMMARISED = 3
"""Field errors in `detail`, which counts the others."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_UNKNOWN_EFFECT = "It is unknown whether this request has taken effect."
# Pydantic puts the chosen member of a union into the location of an error; the body has no such
# key.
_UNION_TAGS = frozenset({"cron", "interval", "one_time", "http", "log"})
# The code and the title of errors that the framework or the middleware raises by status.
_CODES = {
    kind.status: (kind.code, kind.title)
    for kind in (
        CarillonError,
        NotAuthenticatedError,
        ForbiddenError,
        NotFoundError,
        ConflictError,
        PreconditionError,
        InvalidInputError,
        TooManyRequestsError,
        UnavailableError,
    )
} | {413: ("too_large", "Too large")}
_CLEARER_TEXTS = {
    "missing": "this is required",
    "model_attributes_type": "this must be an object",
    "model_type": "this must be an object",
    "dict_type": "this must be an object",
    "tuple_type": "this must be a list",
    "string_unicode": UNSTORABLE_TEXT,
}


def install_handlers(app: FastAPI) -> None:
    """Install the handlers that turn every error into problem details."""
    app.add_exception_handler(CarillonError, _handle_our_error)
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)
    app.add_exception_handler(HTTPException, _handle_http_error)
    app.add_exception_handler(ClientDisconnect, _handle_disconnect)
    app.add_exception_handler(Exception, _handle_bug)


def document_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may return these errors."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": http.HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def build_problem(
    request: Request,
    status: int,
    detail: str,
    *,
    code: str,
    title: str | None = None,
    headers: Mapping[str, str] | None = None,
    extra_members: Mapping[str, Any] | None = None,
) -> Response:
    """One error response. `extra_members` are added to the standard members."""
    request_id = getattr(request.state, "request_id", None)
    body = {
        "type": f"urn:carillon:problem:{code}",
        "title": title or http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.scope["path"],
        "request_id": request_id,
        **(extra_members or {}),
    }
    text = json.dumps(body, ensure_ascii=False).encode(errors="replace")
    return Response(text, status, headers, PROBLEM_JSON)


async def build_problem_response(request: Request, error: Exception) -> Response:
    """The response to an expected error. Raises an unexpected one again."""
    match error:
        case CarillonError():
            return await _handle_our_error(request, error)
        case RequestValidationError():
            return await _handle_invalid_request(request, error)
        case HTTPException():
            return await _handle_http_error(request, error)
    raise error


async def _handle_our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CarillonError)  # noqa: S101 - what the handler is registered for
    headers: dict[str, str] = {}
    if isinstance(error, NotAuthenticatedError):
        headers["WWW-Authenticate"] = error.challenge
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    detail = error.detail
    if isinstance(error, UnavailableError):
        _log.warning("unavailable", error=detail)
        if error.code == UnavailableError.code and request.method not in _SAFE_METHODS:
            detail = f"{detail} {_UNKNOWN_EFFECT}"
    if isinstance(error, UnreadableDocumentError):
        _log.error("unreadable", error=detail, problem=error.problem)
    extra_members = {}
    if isinstance(error, InvalidInputError):
        extra_members["errors"] = _field_problems(error.errors)
    return build_problem(
        request,
        error.status,
        detail,
        code=error.code,
        title=error.title,
        headers=headers,
        extra_members=extra_members,
    )


async def _handle_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    body, query = _annotations_of(request.scope.get("route"))
    errors, found = [], error.errors()
    for number, one in enumerate(found[:_MAX_FIELD_ERRORS]):
        annotation = query if one["loc"][0] == "query" else body
        errors.append(_field_error(one, annotation if number < _MAX_SUGGESTIONS else None))
    fields = _field_problems(errors)
    detail = "; ".join(
        f"{field['pointer'] or 'body'}: {field['detail']}" for field in fields[:_SUMMARISED]
    )
    if len(found) > _SUMMARISED:
        detail += f"; and {len(found) - _SUMMARISED} more"
    return build_problem(
        request,
        InvalidInputError.status,
        detail,
        code=InvalidInputError.code,
        title=InvalidInputError.title,
        extra_members={"errors": fields},
    )


async def _handle_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    status = error.status_code
    code, title = _CODES.get(status, (http.HTTPStatus(status).name.lower(), None))
    detail, headers = error.detail, error.headers
    if status == http.HTTPStatus.NOT_FOUND:
        detail = "This path does not exist."
    elif status == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_allowed_methods(request))
        detail = f"This path does not support {request.method}; use one of: {allowed}."
        headers = {"Allow": allowed}
    return build_problem(
        request,
        status,
        detail,
        code=code,
        title=title,
        headers=headers,
    )


def _allowed_methods(request: Request) -> list[str]:
    """The methods of all routes at the path; the framework names those of only one route.

    A path of the OpenAPI document without parameters, such as /schedules/preview, takes precedence
    over a path with an id.
    """
    named = request.app.openapi()["paths"].get(request.scope["path"])
    return [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if (named is None or method.lower() in named)
        and any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


async def _handle_disconnect(request: Request, error: Exception) -> Response:
    """The client is gone, so nobody receives this response. It is no bug."""
    return build_problem(request, 400, "The body is incomplete.", code="bad_request")


async def _handle_bug(request: Request, error: Exception) -> Response:
    request_id = getattr(request.state, "request_id", None)
    _log.error("request_failed", exc_info=error, request_id=request_id, path=request.url.path)
    return build_problem(
        request,
        CarillonError.status,
        "The service failed unexpectedly. Search its log for the request_id.",
        code=CarillonError.code,
        title=CarillonError.title,
    )


def _annotations_of(route: Any) -> tuple[Any, Any]:
    """The annotations of the body and of the query of a route; None for what it does not have."""
    if not isinstance(route, APIRoute):
        return None, None
    fields = (route.body_field, next(iter(route.dependant.query_params), None))
    body, query = (None if field is None else field.field_info.annotation for field in fields)
    return body, query


def _field_error(error: Mapping[str, Any], annotation: Any) -> FieldError:
    """One error of pydantic: its location, and a text that does not contain the input. `annotation`
    is that of the body or of the query, or None if the text shall suggest nothing."""
    context = error.get("ctx") or {}
    location = [*_without_tags(error["loc"]), *context.get("below", ())]
    match error["type"]:
        case "json_invalid":
            return FieldError("", f"the body is not valid JSON: {context['error']}")
        case "union_tag_invalid":
            detail = f"this must be one of: {context['expected_tags']}"
            return FieldError(_pointer([*location, "type"]), detail)
        case "union_tag_not_found":
            detail = explain_missing_type(annotation, error["loc"][1:], error["input"])
            return FieldError(_pointer([*location, "type"]), detail)
        case "extra_forbidden":
            detail = explain_unknown_field(annotation, error["loc"][1:], error["input"])
            return FieldError(_pointer(location), detail)
    text = _CLEARER_TEXTS.get(error["type"])
    return FieldError(_pointer(location), text or _uncapitalise(error["msg"]))


def _without_tags(location: Sequence[str | int]) -> list[str | int]:
    return [
        part
        for i, part in enumerate(location)
        if not (
            part in _UNION_TAGS
            and 0 < i < len(location) - 1
            and (isinstance(location[i - 1], int) or location[i - 1] in {"target", "body"})
        )
    ]


def _pointer(location: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) into the body. Pointers to parameters and headers start with
    `/query`, `/path` or `/header`."""
    parts = location[1:] if location and location[0] == "body" else location
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in escaped)


def _field_problems(errors: Sequence[FieldError]) -> list[dict[str, str]]:
    return [
        {
            "pointer": _replace_surrogates(error.pointer)[:_MAX_POINTER_LENGTH],
            "detail": error.detail,
        }
        for error in errors
    ]


def _replace_surrogates(text: str) -> str:
    return text.encode(errors="replace").decode()


def _uncapitalise(message: str) -> str:
    return message[:1].lower() + message[1:]
