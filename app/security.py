"""Passwords and access tokens: pure functions, and the only module that knows passlib and jose.

python-jose is used for HMAC alone: its handling of asymmetric keys has open holes
(CVE-2024-33663, CVE-2026-85394).
"""

import base64
import json
import math
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from jose import jws
from jose.exceptions import JWSError
from passlib.context import CryptContext

MIN_PASSWORD_LENGTH = 12
MAX_PASSWORD_LENGTH = 128

Algorithm = Literal["HS256", "HS384", "HS512"]

ISSUER = "carillon"
AUDIENCE = "carillon-api"
ACCESS = "access"
"""The `typ` of access tokens; another kind of token is never taken for one."""

_MAX_TOKEN_LENGTH = 4_096
_LEEWAY_SECONDS = 30
_COMPACT_JWS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# OWASP's minimum: 19 MiB, two passes, one lane (Password Storage Cheat Sheet).
_PASSWORDS = CryptContext(
    schemes=["argon2"],
    argon2__type="ID",
    argon2__memory_cost=19 * 1024,
    argon2__time_cost=2,
    argon2__parallelism=1,
)


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether a password is right, and its hash with present parameters if it is outdated."""

    ok: bool
    new_hash: str | None = None


def hash_password(password: str) -> str:
    """The argon2id hash. Takes 20 to 50 ms of CPU: never call it on the event loop."""
    hashed: str = _PASSWORDS.hash(password)
    return hashed


def verify_password(password: str, password_hash: str) -> PasswordCheck:
    """Compare. Takes as long as `hash_password`, whatever the answer.

    A hash that is none, and a password that could never have been set, are simply not right.
    """
    try:
        ok, new_hash = _PASSWORDS.verify_and_update(password, password_hash)
    except ValueError:
        return PasswordCheck(ok=False)
    return PasswordCheck(ok=ok, new_hash=new_hash)


def random_password() -> str:
    """A password of 120 random bits."""
    return secrets.token_urlsafe(15)


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What tokens are signed with. The algorithm is fixed here, never read from a token."""

    secret: bytes
    algorithm: Algorithm

    @property
    def header(self) -> str:
        """The one header that our tokens have, encoded."""
        text = json.dumps(
            {"alg": self.algorithm, "typ": "JWT"}, separators=(",", ":"), sort_keys=True
        )
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid access token says."""

    user_id: str
    token_id: str
    issued_at: datetime
    expires_at: datetime


class TokenError(ValueError):
    """A token is not valid. Why is nobody's business but the log's."""


def issue_token(
    key: TokenKey, *, user_id: str, token_id: str, now: datetime, lifetime: timedelta
) -> str:
    """An access token, issued at the first whole second from `now` on."""
    issued_at = math.ceil(now.timestamp())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "typ": ACCESS,
        "sub": user_id,
        "jti": token_id,
        "iat": issued_at,
        "exp": issued_at + int(lifetime.total_seconds()),
    }
    token: str = jws.sign(claims, key.secret, algorithm=key.algorithm)
    return token


def read_token(key: TokenKey, token: str, *, now: datetime) -> Claims:
    """The claims of an access token of ours that is valid at `now`. Raises TokenError.

    The header must be exactly the one that we write, so that nothing in it can choose an
    algorithm or a key; only then is the signature looked at, and only then what it signs.
    """
    if len(token) > _MAX_TOKEN_LENGTH or not _COMPACT_JWS.fullmatch(token):
        raise TokenError("not a token")
    if token.partition(".")[0] != key.header:
        raise TokenError("not a token of ours")
    try:
        payload = json.loads(jws.verify(token, key.secret, [key.algorithm]))
    except (JWSError, ValueError, RecursionError) as error:
        raise TokenError("the signature or the payload is wrong") from error
    if not isinstance(payload, dict):
        raise TokenError("the payload is not an object")
    return _claims(payload, now.timestamp())


def _claims(payload: dict[str, Any], now: float) -> Claims:
    fixed = {"iss": ISSUER, "aud": AUDIENCE, "typ": ACCESS}
    if any(payload.get(name) != value for name, value in fixed.items()):
        raise TokenError("made by, for or as something else")
    issued_at, expires_at = _seconds(payload, "iat"), _seconds(payload, "exp")
    if issued_at > now + _LEEWAY_SECONDS or expires_at <= now - _LEEWAY_SECONDS:
        raise TokenError("not valid yet, or expired")
    return Claims(
        user_id=_text(payload, "sub"),
        token_id=_text(payload, "jti"),
        issued_at=datetime.fromtimestamp(issued_at, UTC),
        expires_at=datetime.fromtimestamp(expires_at, UTC),
    )


def _seconds(payload: dict[str, Any], name: str) -> int:
    value = payload.get(name)
    if type(value) is not int or not 0 <= value < 1 << 34:  # up to the year 2514
        raise TokenError(f"{name} is not an instant")
    return value


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value:
        raise TokenError(f"{name} is not a text")
    return value
