"""Signing in."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Message

from app.routers.deps import RuntimeDep
from app.routers.json_route import StrictJsonRequest
from app.routers.problems import document_errors
from app.schemas.tokens import SignIn, TokenOut, parse_form

router = APIRouter(tags=["Signing in"])

MAX_BODY_BYTES = 4_096
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_EXAMPLE = {"grant_type": "password", "username": "admin", "password": "the password of admin"}

_SCHEMA = "Body_sign_in"
OPENAPI_SCHEMAS = {_SCHEMA: SignIn.model_json_schema() | {"title": _SCHEMA}}
"""The schema of the form. The OpenAPI document has only the form, as OAuth2 says."""


async def read_sign_in(request: Request) -> SignIn:
    """The body of the request. It is limited before it is parsed, because everybody may send it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {_FORM, _JSON}:
        raise HTTPException(415, f"Send the body with Content-Type: {_FORM} or {_JSON}.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(
                413, f"The body may have at most {MAX_BODY_BYTES} bytes.", {"Connection": "close"}
            )
    fields = parse_form(body) if kind == _FORM else await _parse_json(request, body)
    try:
        return SignIn.model_validate(fields)
    except ValidationError as error:
        raise _invalid(error.errors(include_url=False)) from None


async def _parse_json(request: Request, body: bytes) -> Any:
    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    try:
        return await StrictJsonRequest(request.scope, receive).json()
    except json.JSONDecodeError as error:
        raise _invalid([{"type": "json_invalid", "loc": (), "ctx": {"error": error.msg}}]) from None


def _invalid(errors: Sequence[Mapping[str, Any]]) -> RequestValidationError:
    return RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in errors])


@router.post(
    "/token",
    operation_id="sign_in",
    summary="Sign in",
    responses=document_errors(400, 401, 408, 413, 415, 422, 429, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                _FORM: {
                    "schema": {"$ref": f"#/components/schemas/{_SCHEMA}"},
                    "example": _EXAMPLE,
                }
            },
        }
    },
)
async def sign_in(
    runtime: RuntimeDep,
    request: Request,
    body: Annotated[SignIn, Depends(read_sign_in)],
) -> TokenOut:
    """Exchange a user name and a password for an access token (OAuth2 password grant).

    The fields may also be sent as a JSON object. A body may have at most 4,096 bytes.
    Send the token with all other requests: `Authorization: Bearer <access_token>`.
    """
    address = request.client.host if request.client else ""
    token = await runtime.auth.sign_in(body.username, body.password, address=address)
    return TokenOut(access_token=token.token, expires_in=int(token.lifetime.total_seconds()))
