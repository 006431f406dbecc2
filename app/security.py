"""Passwords, access tokens and checks of secret keys. No I/O.

No other module imports passlib or jose. python-jose is used for HMAC only, because its handling
of asymmetric keys has known vulnerabilities (CVE-2024-33663, CVE-2026-85394).
"""

import base64
import itertools
import json
import math
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from jose import jws
from jose.exceptions import JWSError
from passlib.context import CryptContext

MIN_PASSWORD_LENGTH = 12
MAX_PASSWORD_LENGTH = 128

SECRET_KEY_MIN_BYTES = 32
EXAMPLE_SECRET_KEY = "replace-me-with-the-output-of-openssl-rand-hex-32"
"""The value in `.env.example`."""

_PUBLIC_SECRET_KEYS = frozenset(
    {
        EXAMPLE_SECRET_KEY,
        # From FastAPI's tutorial and from jwt.io.
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "a-string-secret-at-least-256-bits-long",
    }
)
_COMMAND = "openssl rand"
"""A key with the text of the command, where its output was meant."""
_SUBSTITUTION = "$("
_MIN_DISTINCT_CHARACTERS = 10
"""32 random bytes have fewer with a probability of 1e-12 in hex, and much less in base64."""

Algorithm = Literal["HS256", "HS384", "HS512"]

ISSUER = "carillon"
AUDIENCE = "carillon-api"
ACCESS = "access"
"""The `typ` of access tokens. Tokens with another `typ` are rejected."""

_MAX_TOKEN_LENGTH = 4_096
_LEEWAY_SECONDS = 30
_IDENTIFIER = re.compile(r"[\x21-\x7e]{1,128}")  # also what a database can look up
_COMPACT_JWS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# The minimum of OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
_PASSWORDS = CryptContext(
    schemes=["argon2"],
    argon2__type="ID",
    argon2__memory_cost=19 * 1024,
    argon2__time_cost=2,
    argon2__parallelism=1,
)


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether a password is correct. `new_hash` is set if the stored hash has old parameters."""

    ok: bool
    new_hash: str | None = None


def hash_password(password: str) -> str:
    """Return the argon2id hash. Takes 20 to 50 ms of CPU: never call it on the event loop."""
    hashed: str = _PASSWORDS.hash(password)
    return hashed


def verify_password(password: str, password_hash: str) -> PasswordCheck:
    """Compare a password with a hash. For a well-formed hash this takes as long as `hash_password`,
    whether the password is correct or not.

    The result is not ok for a malformed hash and for a password over passlib's maximum of 4,096
    characters.
    """
    try:
        ok, new_hash = _PASSWORDS.verify_and_update(password, password_hash)
    except ValueError:
        return PasswordCheck(ok=False)
    return PasswordCheck(ok=ok, new_hash=new_hash)


def generate_password() -> str:
    """Return a password of 120 random bits."""
    return secrets.token_urlsafe(15)


@dataclass(frozen=True, slots=True)
class TokenKey:
    """The key that signs tokens. Its algorithm is used, never the one that a token names."""

    secret: bytes
    algorithm: Algorithm

    @property
    def header(self) -> str:
        """The encoded header. All tokens of one key have the same header."""
        text = json.dumps(
            {"alg": self.algorithm, "typ": "JWT"}, separators=(",", ":"), sort_keys=True
        )
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a valid access token."""

    user_id: str
    issued_at: datetime


class TokenError(ValueError):
    """A token is not valid. The reason is for the log only, not for the client."""

    def __init__(self, reason: str, *, is_expired: bool = False) -> None:
        super().__init__(reason)
        self.is_expired = is_expired
        """Whether this service has issued the token, and only its lifetime is over."""


def issue_token(
    key: TokenKey, *, user_id: str, token_id: str, now: datetime, lifetime: timedelta
) -> str:
    """Return an access token whose `iat` is `now`, rounded up to a whole second."""
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
    """Return the claims of an access token that is valid at `now`. Raises TokenError.

    The header must equal the header of issued tokens, so that a token cannot choose an algorithm
    or a key. The signature is checked after the header, and the payload is parsed last.
    """
    if len(token) > _MAX_TOKEN_LENGTH or not _COMPACT_JWS.fullmatch(token):
        raise TokenError("not a token")
    if token.partition(".")[0] != key.header:
        raise TokenError("the header is not that of an issued token")
    try:
        payload = json.loads(jws.verify(token, key.secret, [key.algorithm]))
    except (JWSError, ValueError, RecursionError) as error:
        raise TokenError("the signature or the payload is invalid") from error
    if not isinstance(payload, dict):
        raise TokenError("the payload is not an object")
    return _read_claims(payload, now.timestamp())


def _read_claims(payload: dict[str, Any], now: float) -> Claims:
    fixed = {"iss": ISSUER, "aud": AUDIENCE, "typ": ACCESS}
    if any(payload.get(name) != value for name, value in fixed.items()):
        raise TokenError("iss, aud or typ is not that of an issued token")
    issued_at, expires_at = _read_seconds(payload, "iat"), _read_seconds(payload, "exp")
    if issued_at > now + _LEEWAY_SECONDS:
        raise TokenError("issued in the future")
    _read_identifier(payload, "jti")
    user_id = _read_identifier(payload, "sub")
    if expires_at <= now - _LEEWAY_SECONDS:
        raise TokenError("expired", is_expired=True)
    return Claims(user_id, datetime.fromtimestamp(issued_at, UTC))


def _read_seconds(payload: dict[str, Any], name: str) -> int:
    value = payload.get(name)
    if type(value) is not int or not 0 <= value < 1 << 34:  # up to the year 2514
        raise TokenError(f"{name} is not a number of seconds")
    return value


def _read_identifier(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise TokenError(f"{name} is not 1 to 128 visible ASCII characters")
    return value


def find_weakness(secret_key: str) -> str | None:
    """Return why a service that others can reach must reject `secret_key`, or None."""
    if not secret_key:
        return "must be set"
    lower = secret_key.lower()
    if any(example in lower for example in _PUBLIC_SECRET_KEYS):
        return "must not contain an example that is public"
    if _COMMAND in lower or _SUBSTITUTION in lower:
        return "must be the output of a command, not the command"
    secret_key = _without_quotes(secret_key)
    if len(secret_key.encode()) < SECRET_KEY_MIN_BYTES:
        return f"must have at least {SECRET_KEY_MIN_BYTES} bytes"
    if len(set(secret_key)) < _MIN_DISTINCT_CHARACTERS:
        return f"must have at least {_MIN_DISTINCT_CHARACTERS} different characters"
    if _is_repetition(secret_key):
        return "must not repeat a part of itself"
    if _count_jumps(lower) < _MIN_DISTINCT_CHARACTERS:
        return "must not consist of letters or digits in their order"
    return None


def _without_quotes(text: str) -> str:
    """`docker run --env-file` passes the quotes around a value as a part of it."""
    return text[1:-1] if text[0] in "'\"" and text[-1] == text[0] else text


def _is_repetition(text: str) -> bool:
    """Whether `text` begins with a part that is repeated to its end. The last repetition may be
    cut, as by the removal of a space at the end."""
    return any(text[size:] == text[:-size] for size in range(1, (len(text) + 1) // 2 + 1))


def _count_jumps(text: str) -> int:
    """How many characters are not neighbours, in the order of Unicode, of the ones before them."""
    return sum(abs(ord(one) - ord(other)) > 1 for one, other in itertools.pairwise(text))


def looks_asymmetric(key: str) -> bool:
    """Whether `key` is PEM, DER, JWK or SSH key material, or encodes it as hex or base64."""
    stripped = key.strip()
    if "-----BEGIN" in stripped or stripped.startswith(("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")):
        return True
    decoded = [key.encode("latin-1", "replace"), *_decode(stripped)]
    return any(b"-----BEGIN" in raw or _is_der(raw) or _is_json_container(raw) for raw in decoded)


def _decode(text: str) -> list[bytes]:
    """Decode `text` as hex and as base64 (both alphabets, padded or not), if possible."""
    compact = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    unpadded = compact.rstrip("=")
    padded = unpadded + "=" * (-len(unpadded) % 4)
    decodings = []
    with suppress(ValueError):
        decodings.append(bytes.fromhex(compact))
    with suppress(ValueError):
        decodings.append(base64.b64decode(padded, validate=True))
    return decodings


def _is_der(raw: bytes) -> bool:
    """Whether `raw` is one ASN.1 SEQUENCE that starts with an INTEGER or a SEQUENCE, like a key."""
    if len(raw) < 8 or raw[0] != 0x30:
        return False
    if raw[1] < 0x80:
        start, length = 2, raw[1]
    else:
        start = 2 + (raw[1] & 0x7F)
        length = int.from_bytes(raw[2:start], "big")
    starts_like_a_key = raw[start : start + 1] in (b"\x02", b"\x30")
    return start + length == len(raw) and starts_like_a_key


def _is_json_container(raw: bytes) -> bool:
    if not raw.lstrip().startswith((b"{", b"[")):
        return False
    try:
        return isinstance(json.loads(raw), (dict, list))
    except (ValueError, RecursionError):
        return False
