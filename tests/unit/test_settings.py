"""Every variable's bounds, the rules on secrets, and messages that name but never repeat."""

import base64
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from app.errors import ConfigurationError
from app.settings import EXAMPLE_SECRET_KEY, Settings, load_settings, looks_asymmetric

GOOD_KEY = "0123456789abcdef0123456789abcdef"
EXAMPLE_FILE = Path(__file__).resolve().parents[2] / ".env.example"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)


def load(**variables: str) -> Settings:
    """The settings of an environment that has only these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return load_settings(env_file=None)


def refusal(**variables: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(**variables)
    return caught.value.detail


def test_with_no_variable_set_everything_has_a_default() -> None:
    settings = load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.data_dir == Path(".data")
    assert (settings.environment, settings.role) == ("development", "all")
    assert (settings.mongodb_uri, settings.redis_url, settings.secret_key) == (None, None, None)
    assert settings.mongodb_name == "carillon"
    assert settings.admin_password is None
    assert settings.http_allow_private_hosts is False
    assert settings.max_body_bytes == 1_048_576


def test_durations_are_timedeltas_in_code() -> None:
    settings = load()
    assert settings.access_token_lifetime == timedelta(hours=1)
    assert settings.poll_interval == timedelta(seconds=1)
    assert settings.shutdown_grace == timedelta(seconds=30)
    assert settings.cache_ttl == timedelta(seconds=60)
    assert settings.mongodb_timeout == timedelta(seconds=8)


def test_a_lease_is_short_only_with_the_embedded_database() -> None:
    assert load().lease == timedelta(seconds=10)
    assert load(MONGODB_URI="mongodb://db/?replicaSet=rs").lease == timedelta(seconds=60)
    assert load(LEASE_SECONDS="7.5").lease == timedelta(seconds=7.5)


def test_logs_are_json_in_production_and_for_people_elsewhere() -> None:
    assert load().log_format == "console"
    assert load(ENVIRONMENT="production", SECRET_KEY=GOOD_KEY).log_format == "json"
    assert load(LOG_FORMAT="json").log_format == "json"


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_an_empty_variable_is_an_unset_one(name: str) -> None:
    assert load(**{name: ""}) == load()


def test_a_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("PORT=9000\nHOST=0.0.0.0\nSOMEBODY_ELSES=1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOST", "::1")
        settings = load_settings(env_file=file)
    assert (settings.port, settings.host) == (9000, "::1")
    assert load_settings(env_file=file, port=1234).port == 1234


def test_a_file_that_is_not_text_is_a_configuration_error(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_settings(env_file=file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65535"),
        ("ROLE", "worker"),
        ("ALGORITHM", "HS512"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "1"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "1440"),
        ("LOG_LEVEL", "debug"),
        ("WORKER_CONCURRENCY", "10000"),
        ("POLL_INTERVAL_SECONDS", "0.05"),
        ("LEASE_SECONDS", "5"),
        ("SHUTDOWN_GRACE_SECONDS", "0"),
        ("HTTP_ALLOW_PRIVATE_HOSTS", "true"),
        ("CACHE_TTL_SECONDS", "0"),
        ("MONGODB_URI", "mongodb+srv://user:password@cluster.example"),
        ("REDIS_URL", "rediss://:password@cache.example/1"),
        ("ADMIN_PASSWORD", "twelve chars"),
        ("SECRET_KEY", "short, but this is development"),
    ],
)
def test_a_good_value_is_taken(name: str, value: str) -> None:
    load(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "http"),
        ("PORT", "-1"),
        ("ENVIRONMENT", "staging"),
        ("ROLE", "everything"),
        ("MONGODB_URI", "http://user:canary@db"),
        ("MONGODB_NAME", "a/b"),
        ("MONGODB_NAME", "admin"),
        ("MONGODB_NAME", "x" * 64),
        ("MONGODB_TIMEOUT_SECONDS", "0"),
        ("REDIS_URL", "canary:6379"),
        ("ALGORITHM", "none"),
        ("ALGORITHM", "RS256"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "0"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "1441"),
        ("ADMIN_PASSWORD", "canary"),
        ("ADMIN_PASSWORD", "canary" * 22),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_CONCURRENCY", "10001"),
        ("POLL_INTERVAL_SECONDS", "0.01"),
        ("POLL_INTERVAL_SECONDS", "61"),
        ("POLL_INTERVAL_SECONDS", "nan"),
        ("LEASE_SECONDS", "4.9"),
        ("LEASE_SECONDS", "inf"),
        ("SHUTDOWN_GRACE_SECONDS", "-1"),
        ("SHUTDOWN_GRACE_SECONDS", "3601"),
        ("HTTP_ALLOW_PRIVATE_HOSTS", "perhaps"),
        ("CACHE_TTL_SECONDS", "61"),
        ("MAX_BODY_BYTES", "1023"),
        ("MAX_BODY_BYTES", "1e3"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_not_repeated(name: str, value: str) -> None:
    message = refusal(**{name: value})
    assert message.count("\n") == 1, message
    assert f"  {name} " in message
    assert "canary" not in message


def test_all_bad_variables_are_named_at_once() -> None:
    message = refusal(PORT="x", ROLE="y", SECRET_KEY='{"kty": "oct"}')
    assert all(name in message for name in ("PORT", "ROLE", "SECRET_KEY"))


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    settings = load(
        SECRET_KEY="canary-1",
        ADMIN_PASSWORD="canary-2-long",
        MONGODB_URI="mongodb://u:canary-3@db",
        REDIS_URL="redis://:canary-4@cache",
    )
    assert "canary" not in f"{settings!r} {settings}"


@pytest.mark.parametrize("key", ["", "x" * 31, EXAMPLE_SECRET_KEY])
def test_production_refuses_to_start_without_a_secret_of_its_own(key: str) -> None:
    assert "SECRET_KEY" in refusal(ENVIRONMENT="production", SECRET_KEY=key)


@pytest.mark.parametrize("key", [GOOD_KEY, "é" * 16])
def test_production_starts_with_32_bytes(key: str) -> None:
    assert load(ENVIRONMENT="production", SECRET_KEY=key).secret_key


def key_material() -> dict[str, str]:
    private = ec.generate_private_key(ec.SECP256R1())
    public = rsa.generate_private_key(65537, 2048).public_key()
    spki = PublicFormat.SubjectPublicKeyInfo
    pem = public.public_bytes(Encoding.PEM, spki).decode()
    der = public.public_bytes(Encoding.DER, spki)
    pkcs8 = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    ed = ed25519.Ed25519PrivateKey.generate().public_key()
    jwk = json.dumps({"kty": "RSA", "n": "AQAB", "e": "AQAB"})
    return {
        "PEM": pem,
        "PEM with escaped line ends": pem.replace("\n", "\\n"),
        "PEM after a blank line": f"\n {pem}",
        "PEM in base64": base64.b64encode(pem.encode()).decode(),
        "DER in base64": base64.b64encode(der).decode(),
        "DER in url-safe base64": base64.urlsafe_b64encode(der).decode().rstrip("="),
        "DER in hex": der.hex(),
        "private DER in base64": base64.b64encode(pkcs8).decode(),
        "short DER in hex": ed.public_bytes(Encoding.DER, spki).hex(),
        "DER as it is": der.decode("latin-1"),
        "OpenSSH": ed.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
        "JWK": jwk,
        "JWK set": json.dumps({"keys": [json.loads(jwk)]}),
        "JWK in base64": base64.b64encode(jwk.encode()).decode(),
    }


@pytest.mark.parametrize("kind", key_material())
def test_key_material_of_other_algorithms_is_recognised(kind: str) -> None:
    assert looks_asymmetric(key_material()[kind])


@pytest.mark.parametrize("kind", ["PEM", "DER in hex", "OpenSSH", "JWK"])
def test_such_key_material_is_refused_in_development_too(kind: str) -> None:
    material = key_material()[kind]
    message = refusal(SECRET_KEY=material)
    assert "SECRET_KEY" in message
    assert material not in message


@pytest.mark.parametrize(
    "key",
    [
        GOOD_KEY,
        "0123456789" * 5,
        "00" * 32,
        "A" * 44,
        "MIIB and then some words",
        "{not json}",
        "0",
    ],
)
def test_random_text_is_not_taken_for_such_material(key: str) -> None:
    assert not looks_asymmetric(key)


def documented() -> dict[str, str]:
    """The variables of `.env.example`, whose lines are comments, with their values."""
    pairs = (
        line.removeprefix("# ").split("=", 1) for line in EXAMPLE_FILE.read_text().splitlines()
    )
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[0].isupper()}


def test_the_example_file_names_every_variable_and_no_other() -> None:
    assert set(documented()) == {name.upper() for name in Settings.model_fields}


def test_the_example_file_shows_the_defaults() -> None:
    defaults = load()
    for name, shown in documented().items():
        default = getattr(defaults, name.lower())
        if shown and default is not None:
            assert getattr(load(**{name: shown}), name.lower()) == default, name


def test_the_example_file_as_it_is_changes_nothing() -> None:
    assert load_settings(env_file=EXAMPLE_FILE) == load()


def test_the_example_key_is_the_one_that_production_refuses() -> None:
    assert documented()["SECRET_KEY"] == EXAMPLE_SECRET_KEY
