"""The bounds of each variable, the rules on secrets, and errors that do not contain values."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from app.errors import ConfigurationError
from app.models.job import LONGEST_TIMEOUT_SECONDS
from app.security import EXAMPLE_SECRET_KEY
from app.settings import Settings, load_settings
from tests.support.key_material import generate_key_material

GOOD_KEY = "8d1f0c6a2b9e4735d0f1a6c28e7b5934"
EXAMPLE_FILE = Path(__file__).resolve().parents[2] / ".env.example"


@pytest.fixture(autouse=True)
def _clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)


def load(**variables: str) -> Settings:
    """Load the settings of an environment that has only these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return load_settings(env_file=None)


def load_error(**variables: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(**variables)
    return caught.value.detail


def test_every_variable_has_a_default() -> None:
    settings = load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.data_dir == Path(".data")
    assert (settings.environment, settings.role) == ("development", "all")
    assert (settings.mongodb_uri, settings.redis_url, settings.secret_key) == (None, None, None)
    assert settings.mongodb_name == "carillon"
    assert settings.admin_password is None
    assert settings.http_allow_private_hosts is False
    assert settings.max_body_bytes == 262_144


def test_durations_are_timedeltas_in_code() -> None:
    settings = load()
    assert settings.access_token_lifetime == timedelta(hours=1)
    assert settings.poll_interval == timedelta(seconds=1)
    assert settings.shutdown_grace == timedelta(seconds=30)
    assert settings.cache_ttl == timedelta(seconds=60)
    assert settings.mongodb_timeout == timedelta(seconds=8)


def test_the_default_lease_is_short_only_with_the_embedded_database() -> None:
    assert load().lease_term == timedelta(seconds=10)
    assert load(MONGODB_URI="mongodb://db/?replicaSet=rs").lease_term == timedelta(seconds=60)
    assert load(LEASE_SECONDS="7.5").lease_term == timedelta(seconds=7.5)


def test_logs_are_json_in_production_and_for_the_console_in_development() -> None:
    assert load().log_format == "console"
    assert load(ENVIRONMENT="production", SECRET_KEY=GOOD_KEY).log_format == "json"
    assert load(LOG_FORMAT="json").log_format == "json"


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_an_empty_variable_counts_as_unset(name: str) -> None:
    assert load(**{name: ""}) == load()


def test_a_file_is_read_and_the_environment_takes_precedence(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("PORT=9000\nHOST=0.0.0.0\nUNKNOWN=1\n")
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
        ("MAX_RUNNING_PER_OWNER", "1"),
        ("MAX_TIMEOUT_SECONDS", str(LONGEST_TIMEOUT_SECONDS)),
        ("POLL_INTERVAL_SECONDS", "0.05"),
        ("LEASE_SECONDS", "5"),
        ("SHUTDOWN_GRACE_SECONDS", "0"),
        ("HTTP_ALLOW_PRIVATE_HOSTS", "true"),
        ("HTTP_DENY_NETWORKS", "203.0.113.0/24, 2001:db8::/32,198.51.100.7,::1,0.0.0.0/0"),
        ("HTTP_DENY_NETWORKS", ",".join(["10.0.0.0/8"] * 100)),
        ("DNS_SERVERS", "9.9.9.9, 127.0.0.1:5353,[::1],[::1]:53"),
        ("MAX_CONNECTIONS", "10"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1,fd00::/8,::1"),
        ("CACHE_TTL_SECONDS", "0"),
        ("MONGODB_URI", "mongodb+srv://user:password@cluster.example"),
        ("REDIS_URL", "rediss://:password@cache.example/1"),
        ("ADMIN_PASSWORD", "x" * 12),
        ("ADMIN_PASSWORD", "x" * 128),
        ("SECRET_KEY", "short, but this is development"),
    ],
)
def test_a_valid_value_is_accepted(name: str, value: str) -> None:
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
        ("ADMIN_PASSWORD", "canary" + "x" * 5),
        ("ADMIN_PASSWORD", "canary" + "x" * 123),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_CONCURRENCY", "10001"),
        ("MAX_RUNNING_PER_OWNER", "0"),
        ("MAX_TIMEOUT_SECONDS", "0"),
        ("MAX_TIMEOUT_SECONDS", str(LONGEST_TIMEOUT_SECONDS + 1)),
        ("POLL_INTERVAL_SECONDS", "0.01"),
        ("POLL_INTERVAL_SECONDS", "61"),
        ("POLL_INTERVAL_SECONDS", "nan"),
        ("LEASE_SECONDS", "4.9"),
        ("LEASE_SECONDS", "inf"),
        ("SHUTDOWN_GRACE_SECONDS", "-1"),
        ("SHUTDOWN_GRACE_SECONDS", "3601"),
        ("HTTP_ALLOW_PRIVATE_HOSTS", "perhaps"),
        ("HTTP_DENY_NETWORKS", "canary.example"),
        ("HTTP_DENY_NETWORKS", "10.0.0.0/8,"),
        ("HTTP_DENY_NETWORKS", "10.0.0.0/8;11.0.0.0/8"),
        ("HTTP_DENY_NETWORKS", "10.0.0.0/33"),
        ("HTTP_DENY_NETWORKS", "10.0.0.1/8"),
        ("HTTP_DENY_NETWORKS", "2001:db8::1/32"),
        ("HTTP_DENY_NETWORKS", '["10.0.0.0/8"]'),
        ("HTTP_DENY_NETWORKS", ",".join(["10.0.0.0/8"] * 101)),
        ("DNS_SERVERS", "canary.example"),
        ("DNS_SERVERS", "127.0.0.1:0"),
        ("DNS_SERVERS", "::1"),
        ("DNS_SERVERS", "127.0.0.1:canary"),
        ("DNS_SERVERS", "127.0.0.1,"),
        ("MAX_CONNECTIONS", "9"),
        ("TRUSTED_PROXIES", "canary.example"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "10.0.0.1,"),
        ("TRUSTED_PROXIES", "*"),
        ("CACHE_TTL_SECONDS", "61"),
        ("MAX_BODY_BYTES", "1023"),
        ("MAX_BODY_BYTES", "1e3"),
    ],
)
def test_an_invalid_value_is_rejected_by_name_and_not_repeated(name: str, value: str) -> None:
    message = load_error(**{name: value})
    assert message.count("\n") == 1, message
    assert f"  {name} " in message
    assert "canary" not in message


def test_an_invalid_network_is_named_by_its_number() -> None:
    message = load_error(HTTP_DENY_NETWORKS="10.0.0.0/8,nonsense")
    assert "number 2 is not a network" in message
    message = load_error(HTTP_DENY_NETWORKS="10.0.0.0/8,192.168.0.0/16,192.168.0.1/16")
    assert "number 3 has a later address" in message


def test_networks_are_separated_by_commas() -> None:
    networks = load(HTTP_DENY_NETWORKS="203.0.113.0/24, 2001:db8::/32,198.51.100.7")
    assert [str(network) for network in networks.http_deny_networks] == [
        "203.0.113.0/24", "2001:db8::/32", "198.51.100.7/32",
    ]  # fmt: skip


def test_one_error_names_all_invalid_variables() -> None:
    message = load_error(PORT="x", ROLE="y", SECRET_KEY='{"kty": "oct"}')
    assert all(name in message for name in ("PORT", "ROLE", "SECRET_KEY"))


def test_printed_settings_do_not_contain_secrets() -> None:
    settings = load(
        SECRET_KEY="canary-1",
        ADMIN_PASSWORD="canary-2-long",
        MONGODB_URI="mongodb://u:canary-3@db",
        REDIS_URL="redis://:canary-4@cache",
    )
    assert "canary" not in f"{settings!r} {settings}"


OPEN_TO_OTHERS = (
    {"ENVIRONMENT": "production"},
    {"HOST": "0.0.0.0"},
    {"HOST": "::"},
    {"HOST": "192.0.2.1"},
    {"HOST": "carillon.example"},
)
WEAK_KEYS = {
    "short": GOOD_KEY[:31],
    "short without the spaces": f"  {GOOD_KEY[:31]}\t",
    "the example": EXAMPLE_SECRET_KEY,
    "the example in capitals": EXAMPLE_SECRET_KEY.upper(),
    "the example of FastAPI": "09D25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "nine characters": "123456789" + "1" * 40,
    "one word, repeated": "correct horse battery staple " * 2,
    "the example in quotes": f'"{EXAMPLE_SECRET_KEY}"',
    "the example and more": f"{EXAMPLE_SECRET_KEY}-2f6d8a0c",
    "short without the quotes": f"'{GOOD_KEY[:31]}'",
    "letters and digits in their order": "abcdefghijklmnopqrstuvwxyz0123456789",
    "letters in reverse order": "ZYXWVUTSRQPONMLKJIHGFEDCBAzyxwvutsrqponm",
    "a command that was not run": "$(openssl rand -hex 32) and some more",
    "a command as text": "output of openssl rand -hex 32, pasted",
    "a substitution": "$(pwgen --secure --numerals 64 1)",
    "a repetition that is cut": "0123456789abcdef" * 2 + "0123",
}


@pytest.mark.parametrize("variables", OPEN_TO_OTHERS, ids=str)
@pytest.mark.parametrize("kind", WEAK_KEYS)
def test_a_weak_secret_is_rejected_where_others_can_reach_the_service(
    kind: str, variables: dict[str, str]
) -> None:
    message = load_error(SECRET_KEY=WEAK_KEYS[kind], **variables)
    assert "SECRET_KEY must" in message
    assert next(iter(variables)) in message
    assert "openssl rand -hex 32" in message
    assert WEAK_KEYS[kind] not in message


@pytest.mark.parametrize("key", ["", " \t\n"])
def test_production_rejects_a_missing_secret(key: str) -> None:
    assert "SECRET_KEY must be set" in load_error(ENVIRONMENT="production", SECRET_KEY=key)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
@pytest.mark.parametrize("kind", WEAK_KEYS)
def test_a_weak_secret_is_accepted_where_only_this_machine_can_reach_the_service(
    kind: str, host: str
) -> None:
    assert load(SECRET_KEY=WEAK_KEYS[kind], HOST=host).secret_key


def test_without_a_secret_a_service_in_development_may_listen_on_all_addresses() -> None:
    assert load(HOST="0.0.0.0").secret_key is None


@pytest.mark.parametrize(
    "key", [GOOD_KEY, f"'{GOOD_KEY}'", "äöüßéèêáàâøåñçœł", "a b c d e f g h i j k l m n o p q"]
)
def test_production_accepts_a_secret_of_32_bytes(key: str) -> None:
    assert load(ENVIRONMENT="production", SECRET_KEY=key).secret_key


def test_spaces_around_a_secret_do_not_belong_to_it() -> None:
    key = load(ENVIRONMENT="production", SECRET_KEY=f" {GOOD_KEY}\r\n").secret_key
    assert key is not None
    assert key.get_secret_value() == GOOD_KEY


@pytest.mark.parametrize("kind", ["PEM", "DER in hex", "OpenSSH", "JWK"])
def test_asymmetric_key_material_is_rejected_in_development_too(kind: str) -> None:
    material = generate_key_material()[kind]
    message = load_error(SECRET_KEY=material)
    assert "SECRET_KEY" in message
    assert material not in message


def read_example_file() -> dict[str, str]:
    """Return the variables of `.env.example` and their values. All its lines are comments."""
    pairs = (
        line.removeprefix("# ").split("=", 1) for line in EXAMPLE_FILE.read_text().splitlines()
    )
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[0].isupper()}


def test_the_example_file_names_every_variable_and_no_other() -> None:
    of_compose = {"MONGODB_PASSWORD", "MONGODB_ROOT_PASSWORD", "REDIS_PASSWORD"}
    settings = {name.upper() for name in Settings.model_fields}
    assert set(read_example_file()) == settings | of_compose


def test_the_example_file_shows_the_defaults() -> None:
    defaults = load()
    for name, shown in read_example_file().items():
        default = getattr(defaults, name.lower(), None)
        if shown and default is not None:
            assert getattr(load(**{name: shown}), name.lower()) == default, name


def test_the_unchanged_example_file_sets_nothing() -> None:
    assert load_settings(env_file=EXAMPLE_FILE) == load()


def test_the_example_key_is_the_one_that_production_rejects() -> None:
    assert read_example_file()["SECRET_KEY"] == EXAMPLE_SECRET_KEY
