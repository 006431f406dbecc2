"""Signing in."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.security import OAuth2PasswordRequestForm

from app.routers.deps import RuntimeDep
from app.routers.problems import document_errors
from app.schemas.tokens import TokenOut

router = APIRouter(tags=["Signing in"])

_EXAMPLE = {"grant_type": "password", "username": "admin", "password": "the password of admin"}


@router.post(
    "/token",
    operation_id="sign_in",
    summary="Sign in",
    responses=document_errors(400, 401, 408, 413, 422, 503),
    openapi_extra={
        "requestBody": {"content": {"application/x-www-form-urlencoded": {"example": _EXAMPLE}}}
    },
)
async def sign_in(
    runtime: RuntimeDep,
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    response: Response,
) -> TokenOut:
    """Exchange a user name and a password for an access token (OAuth2 password grant).

    Send the token with all other requests: `Authorization: Bearer <access_token>`.
    """
    token = await runtime.auth.sign_in(form.username, form.password)
    response.headers["Cache-Control"] = "no-store"
    return TokenOut(access_token=token.token, expires_in=int(token.lifetime.total_seconds()))
