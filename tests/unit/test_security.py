"""Passwords, and a table of forged tokens: each is refused, none raises anything else."""

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest

from app.security import (
    Claims,
    TokenError,
    TokenKey,
    hash_password,
    issue_token,
    random_password,
    read_token,
    verify_password,
)
from tests.support.clock import START

SECRET = b"0123456789abcdef0123456789abcdef"
KEY = TokenKey(SECRET, "HS256")
NOW = int(START.timestamp())
HOUR = timedelta(hours=1)

HEADER = {"alg": "HS256", "typ": "JWT"}
CLAIMS = {
    "iss": "carillon",
    "aud": "carillon-api",
    "typ": "access",
    "sub": "user",
    "jti": "token",
    "iat": NOW,
    "exp": NOW + 3600,
}
PEM = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def encoded(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forge(
    header: Any = None, claims: Any = None, *, secret: bytes = SECRET, algorithm: str = "HS256"
) -> str:
    """A token made by hand, rightly signed by HMAC with `secret`."""
    signed = f"{encoded(header or HEADER)}.{encoded(CLAIMS if claims is None else claims)}"
    signature = hmac.new(secret, signed.encode(), HASHES[algorithm]).digest()
    return f"{signed}.{encoded(signature)}"


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CLAIMS.items() if key != name}


def unsigned(header: dict[str, Any]) -> str:
    return f"{encoded(header)}.{encoded(CLAIMS)}."


FORGED: dict[str, str] = {
    **{
        f"alg {name!r}, unsigned": unsigned({"alg": name, "typ": "JWT"})
        for name in ("none", "None", "NONE", "nOnE", "", "HS256")
    },
    **{
        f"alg {name!r}, signed": forge({"alg": name, "typ": "JWT"})
        for name in ("none", "hs256", "HS384", "RS256", "ES256", "PS256", "EdDSA", "dir")
    },
    "another HMAC": forge({"alg": "HS512", "typ": "JWT"}, algorithm="HS512"),
    "no alg": forge({"typ": "JWT"}),
    "alg is a list": forge({"alg": ["HS256"], "typ": "JWT"}),
    "alg is null": forge({"alg": None, "typ": "JWT"}),
    "signed with a PEM": forge(secret=PEM),
    "signed with a DER": forge(secret=bytes.fromhex("302a300506032b6570032100") + b"\1" * 32),
    "signed with a JWK": forge(secret=b'{"kty":"oct","k":"AAAA"}'),
    "signed with nothing": forge(secret=b""),
    "kid": forge({**HEADER, "kid": "../../dev/null"}),
    "jku": forge({**HEADER, "jku": "https://evil.example/keys"}),
    "jwk": forge({**HEADER, "jwk": {"kty": "oct", "k": encoded(SECRET)}}),
    "x5u": forge({**HEADER, "x5u": "https://evil.example/cert"}),
    "crit": forge({**HEADER, "crit": ["exp"]}),
    "b64": forge({**HEADER, "b64": False, "crit": ["b64"]}),
    "zip": forge({**HEADER, "zip": "DEF"}),
    "another typ of header": forge({"alg": "HS256", "typ": "refresh+jwt"}),
    "header is a list": forge(["HS256"]),
    "header is nested deeply": forge(b"[" * 1_500),
    "header is no JSON": forge(b"\xff\xfe"),
    **{f"no {name}": forge(claims=without(name)) for name in CLAIMS},
    **{
        f"exp {value!r}": forge(claims={**CLAIMS, "exp": value})
        for value in (str(NOW + 60), NOW + 60.5, None, True, [NOW], -1, 10**30, {"$gt": 0})
    },
    **{
        f"iat {value!r}": forge(claims={**CLAIMS, "iat": value})
        for value in (str(NOW), NOW + 0.5, None, False, -1, 10**30)
    },
    "exp NaN": forge(claims=json.dumps({**CLAIMS, "exp": float("nan")}).encode()),
    **{
        f"sub {value!r}": forge(claims={**CLAIMS, "sub": value})
        for value in (None, 5, "", {"$gt": ""}, ["user"])
    },
    "jti is a number": forge(claims={**CLAIMS, "jti": 7}),
    "another issuer": forge(claims={**CLAIMS, "iss": "somebody"}),
    "issuers": forge(claims={**CLAIMS, "iss": ["carillon"]}),
    "another audience": forge(claims={**CLAIMS, "aud": "elsewhere"}),
    "audiences": forge(claims={**CLAIMS, "aud": ["carillon-api", "elsewhere"]}),
    "a refresh token": forge(claims={**CLAIMS, "typ": "refresh"}),
    "expired beyond the leeway": forge(claims={**CLAIMS, "exp": NOW - 30}),
    "issued in the future": forge(claims={**CLAIMS, "iat": NOW + 31}),
    "another deployment's key": forge(secret=SECRET[::-1]),
    "claims are a list": forge(claims=[CLAIMS]),
    "claims are no JSON": forge(claims=b"{"),
    "claims are not UTF-8": forge(claims=b'{"sub": "\xff"}'),
    "claims are nested deeply": forge(claims=b"[" * 1_500),
    "claims are empty": forge(claims={}),
    "1 MB of token": forge(claims={**CLAIMS, "more": "x" * 1_000_000}),
    "1 MB of A": "A" * 1_000_000,
    "nothing": "",
    "dots": "..",
    "more dots": "." * 4_000,
    "two parts": forge().rpartition(".")[0],
    "four parts": forge() + ".AAAA",
    "no signature": forge().rpartition(".")[0] + ".",
    "half a signature": forge()[:-20],
    "padding": forge() + "==",
    "not base64": encoded(HEADER) + ".%%%.%%%",
    "not ASCII": encoded(HEADER) + ".é.é",
    "surrogates": encoded(HEADER) + ".\ud800.\ud800",
    "NUL": forge() + "\0",
    "a space before": " " + forge(),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(name: str) -> None:
    with pytest.raises(TokenError):
        read_token(KEY, FORGED[name], now=START)


def test_a_token_made_by_hand_of_the_same_form_is_ours() -> None:
    assert read_token(KEY, forge(), now=START).user_id == "user"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_what_is_issued_can_be_read(algorithm: Any) -> None:
    key = TokenKey(SECRET, algorithm)
    token = issue_token(key, user_id="u", token_id="t", now=START, lifetime=HOUR)
    assert read_token(key, token, now=START) == Claims("u", "t", START, START + HOUR)


def test_a_token_is_issued_at_the_next_whole_second() -> None:
    now = START + timedelta(milliseconds=1)
    token = issue_token(KEY, user_id="u", token_id="t", now=now, lifetime=HOUR)
    assert read_token(KEY, token, now=now).issued_at == START + timedelta(seconds=1)


def test_a_token_is_valid_until_the_leeway_after_its_end() -> None:
    token = issue_token(KEY, user_id="u", token_id="t", now=START, lifetime=HOUR)
    assert read_token(KEY, token, now=START + HOUR + timedelta(seconds=29))
    with pytest.raises(TokenError):
        read_token(KEY, token, now=START + HOUR + timedelta(seconds=31))


def test_a_password_is_hashed_with_argon2id_and_todays_parameters() -> None:
    password_hash = hash_password("correct horse")
    assert password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hash_password("correct horse") != password_hash
    assert verify_password("correct horse", password_hash).ok
    assert verify_password("correct horse", password_hash).new_hash is None
    assert not verify_password("wrong horse", password_hash).ok


@pytest.mark.parametrize("password_hash", ["", "garbage", "$argon2id$", "$2b$12$" + "x" * 53])
def test_a_hash_that_is_none_is_simply_not_right(password_hash: str) -> None:
    assert not verify_password("correct horse", password_hash).ok


@pytest.mark.parametrize("password", ["", "\0", "x" * 100_000, "pässwörd"])
def test_an_odd_password_is_simply_not_right(password: str) -> None:
    assert not verify_password(password, hash_password("correct horse")).ok


def test_random_passwords_differ_and_are_long_enough() -> None:
    passwords = {random_password() for _ in range(100)}
    assert len(passwords) == 100
    assert all(len(password) == 20 for password in passwords)
