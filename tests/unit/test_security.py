"""Passwords, checks of secret keys, and a table of forged tokens that all raise TokenError."""

import base64
import hashlib
import hmac
import json
import secrets
import shutil
import subprocess
from datetime import timedelta
from typing import Any

import pytest

from app.security import (
    Claims,
    TokenError,
    TokenKey,
    find_weakness,
    generate_password,
    hash_password,
    issue_token,
    looks_asymmetric,
    read_token,
    verify_password,
)
from tests.support.clock import START
from tests.support.key_material import generate_key_material

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
KEY_MATERIAL = generate_key_material()
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def encode(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forge(
    header: Any = None, claims: Any = None, *, secret: bytes = SECRET, algorithm: str = "HS256"
) -> str:
    """Build a token by hand, with a correct HMAC signature by `secret`."""
    signed = f"{encode(header or HEADER)}.{encode(CLAIMS if claims is None else claims)}"
    signature = hmac.new(secret, signed.encode(), HASHES[algorithm]).digest()
    return f"{signed}.{encode(signature)}"


def omit_claim(name: str) -> dict[str, Any]:
    return {key: value for key, value in CLAIMS.items() if key != name}


def build_unsigned(header: dict[str, Any]) -> str:
    return f"{encode(header)}.{encode(CLAIMS)}."


FORGED: dict[str, str] = {
    **{
        f"alg {name!r}, unsigned": build_unsigned({"alg": name, "typ": "JWT"})
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
    "signed with an empty key": forge(secret=b""),
    "kid": forge({**HEADER, "kid": "../../dev/null"}),
    "jku": forge({**HEADER, "jku": "https://evil.example/keys"}),
    "jwk": forge({**HEADER, "jwk": {"kty": "oct", "k": encode(SECRET)}}),
    "x5u": forge({**HEADER, "x5u": "https://evil.example/cert"}),
    "crit": forge({**HEADER, "crit": ["exp"]}),
    "b64": forge({**HEADER, "b64": False, "crit": ["b64"]}),
    "zip": forge({**HEADER, "zip": "DEF"}),
    "another typ of header": forge({"alg": "HS256", "typ": "refresh+jwt"}),
    "header is a list": forge(["HS256"]),
    "header is nested deeply": forge(b"[" * 1_500),
    "header is not JSON": forge(b"\xff\xfe"),
    **{f"no {name}": forge(claims=omit_claim(name)) for name in CLAIMS},
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
        for value in (
            None,
            5,
            "",
            {"$gt": ""},
            ["user"],
            "\ud800",
            "a\0",
            "a b",
            "é",
            "u\n",
            "u" * 129,
        )
    },
    "jti is a number": forge(claims={**CLAIMS, "jti": 7}),
    "jti is a lone surrogate": forge(claims={**CLAIMS, "jti": "\ud800"}),
    "another issuer": forge(claims={**CLAIMS, "iss": "somebody"}),
    "issuers": forge(claims={**CLAIMS, "iss": ["carillon"]}),
    "another audience": forge(claims={**CLAIMS, "aud": "elsewhere"}),
    "audiences": forge(claims={**CLAIMS, "aud": ["carillon-api", "elsewhere"]}),
    "a refresh token": forge(claims={**CLAIMS, "typ": "refresh"}),
    "expired beyond the leeway": forge(claims={**CLAIMS, "exp": NOW - 30}),
    "issued in the future": forge(claims={**CLAIMS, "iat": NOW + 31}),
    "another deployment's key": forge(secret=SECRET[::-1]),
    "claims are a list": forge(claims=[CLAIMS]),
    "claims are not JSON": forge(claims=b"{"),
    "claims are not UTF-8": forge(claims=b'{"sub": "\xff"}'),
    "claims are nested deeply": forge(claims=b"[" * 1_500),
    "claims are empty": forge(claims={}),
    "1 MB of token": forge(claims={**CLAIMS, "more": "x" * 1_000_000}),
    "1 MB of A": "A" * 1_000_000,
    "empty": "",
    "dots": "..",
    "more dots": "." * 4_000,
    "two parts": forge().rpartition(".")[0],
    "four parts": forge() + ".AAAA",
    "no signature": forge().rpartition(".")[0] + ".",
    "half a signature": forge()[:-20],
    "padding": forge() + "==",
    "not base64": encode(HEADER) + ".%%%.%%%",
    "not ASCII": encode(HEADER) + ".é.é",
    "surrogates": encode(HEADER) + ".\ud800.\ud800",
    "NUL": forge() + "\0",
    "a space before": " " + forge(),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_rejected(name: str) -> None:
    with pytest.raises(TokenError) as raised:
        read_token(KEY, FORGED[name], now=START)
    assert raised.value.is_expired == (name == "expired beyond the leeway")


def test_a_forged_token_is_not_called_expired() -> None:
    forged = forge(claims={**CLAIMS, "exp": NOW - 3_600}, secret=SECRET[::-1])
    with pytest.raises(TokenError) as raised:
        read_token(KEY, forged, now=START)
    assert not raised.value.is_expired


def test_a_token_built_by_hand_in_the_right_form_is_accepted() -> None:
    assert read_token(KEY, forge(), now=START).user_id == "user"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_an_issued_token_can_be_read(algorithm: Any) -> None:
    key = TokenKey(SECRET, algorithm)
    token = issue_token(key, user_id="u", token_id="t", now=START, lifetime=HOUR)
    assert read_token(key, token, now=START) == Claims("u", START)
    payload = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert payload["jti"] == "t"
    assert payload["exp"] == (START + HOUR).timestamp()


def test_a_token_is_issued_at_the_next_whole_second() -> None:
    now = START + timedelta(milliseconds=1)
    token = issue_token(KEY, user_id="u", token_id="t", now=now, lifetime=HOUR)
    assert read_token(KEY, token, now=now).issued_at == START + timedelta(seconds=1)


def test_a_token_is_valid_until_its_expiry_plus_the_leeway() -> None:
    token = issue_token(KEY, user_id="u", token_id="t", now=START, lifetime=HOUR)
    assert read_token(KEY, token, now=START + HOUR + timedelta(seconds=29))
    with pytest.raises(TokenError) as raised:
        read_token(KEY, token, now=START + HOUR + timedelta(seconds=31))
    assert raised.value.is_expired


def test_a_password_is_hashed_with_argon2id_and_the_current_parameters() -> None:
    password_hash = hash_password("correct horse")
    assert password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hash_password("correct horse") != password_hash
    assert verify_password("correct horse", password_hash).ok
    assert verify_password("correct horse", password_hash).new_hash is None
    assert not verify_password("wrong horse", password_hash).ok


@pytest.mark.parametrize("password_hash", ["", "garbage", "$argon2id$", "$2b$12$" + "x" * 53])
def test_a_malformed_hash_matches_no_password(password_hash: str) -> None:
    assert not verify_password("correct horse", password_hash).ok


@pytest.mark.parametrize("password", ["", "\0", "x" * 100_000, "pässwörd"])
def test_an_unusual_wrong_password_is_rejected_without_an_error(password: str) -> None:
    assert not verify_password(password, hash_password("correct horse")).ok


def test_random_passwords_differ_and_are_long_enough() -> None:
    passwords = {generate_password() for _ in range(100)}
    assert len(passwords) == 100
    assert all(len(password) == 20 for password in passwords)


@pytest.mark.parametrize("kind", KEY_MATERIAL)
def test_asymmetric_key_material_is_recognised(kind: str) -> None:
    assert looks_asymmetric(KEY_MATERIAL[kind])


@pytest.mark.parametrize(
    "key",
    [
        SECRET.decode(),
        "0123456789" * 5,
        "00" * 32,
        "A" * 44,
        "MIIB and then some words",
        "{not json}",
        "0",
    ],
)
def test_random_text_is_not_taken_for_asymmetric_key_material(key: str) -> None:
    assert not looks_asymmetric(key)


@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_no_random_key_is_rejected(encoding: str) -> None:
    """The formats of `openssl rand -hex 32` and of `openssl rand -base64 32`."""
    raw = [secrets.token_bytes(32) for _ in range(10_000)]
    if encoding == "hex":
        keys = [one.hex() for one in raw]
    else:
        keys = [base64.b64encode(one).decode() for one in raw]
    if openssl := shutil.which("openssl"):
        keys.append(subprocess.check_output([openssl, "rand", f"-{encoding}", "32"], text=True))
    assert [key for key in keys if find_weakness(key.strip()) or looks_asymmetric(key)] == []
