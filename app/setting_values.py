"""Checks of values and names of settings."""

from collections.abc import Collection
from ipaddress import ip_address
from typing import Annotated

from pydantic import BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from app.networks import Networks, parse_networks
from app.security import (
    MAX_PASSWORD_LENGTH,
    MIN_PASSWORD_LENGTH,
    find_weakness,
    looks_asymmetric,
)
from app.similar_names import find_nearest

_DNS_SERVER = r"\s*([0-9.]+|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?\s*"
DNS_SERVERS = rf"^{_DNS_SERVER}(,{_DNS_SERVER})*$"

PASSWORD_LENGTHS = f"{MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters"


_PREFIX = "CARILLON_"
_OF_COMPOSE = {"MONGODB_PASSWORD", "MONGODB_ROOT_PASSWORD", "REDIS_PASSWORD"}
"""docker-compose.yml reads them from the same file."""


def find_similar(name: str, known: Collection[str]) -> str | None:
    """The known name that an unknown one resembles; None if it resembles none, or is known."""
    name = name.upper()
    if name in known or name in _OF_COMPOSE:
        return None
    return find_nearest(name.removeprefix(_PREFIX), known)


def uppercase(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def check_database_name(value: str) -> str:
    if value in {"admin", "local", "config"}:
        raise PydanticCustomError(
            "name", "must not be admin, local or config, which MongoDB uses itself"
        )
    if set(value) & set('/\\. "$*<>:|?\0'):
        raise PydanticCustomError("name", 'must not contain a space or any of /\\."$*<>:|?')
    return value


def _read_networks(value: object) -> object:
    """Networks that are separated by commas. Raises PydanticCustomError."""
    return parse_networks(value) if isinstance(value, str) else value


NetworkList = Annotated[Networks, NoDecode, BeforeValidator(_read_networks)]
"""Networks and addresses that are separated by commas."""


def check_password_length(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not MIN_PASSWORD_LENGTH <= len(value) <= MAX_PASSWORD_LENGTH:
        raise PydanticCustomError("length", f"must have {PASSWORD_LENGTHS}")
    return value


def clean_secret_key(value: SecretStr | None) -> SecretStr | None:
    """Return the key without the spaces around it, or None if nothing is left."""
    key = value.get_secret_value().strip() if value is not None else ""
    if not key:
        return None
    # python-jose accepts such keys as HMAC keys (see `security.py`).
    if looks_asymmetric(key):
        raise PydanticCustomError(
            "key_material",
            "looks like PEM, DER, JWK or SSH key material;"
            " use random text, such as the output of `openssl rand -hex 32`",
        )
    return SecretStr(key)


def require_strong_secret_key(value: SecretStr | None, *, production: bool, host: str) -> None:
    """Reject a weak key where others can reach the service. In development an unset key is
    replaced by a random one (`embedded/secret_key.py`)."""
    if not production and (value is None or _is_loopback(host)):
        return
    weakness = find_weakness(value.get_secret_value() if value else "")
    if weakness is not None:
        cause = "ENVIRONMENT is production" if production else "HOST is not a loopback address"
        raise PydanticCustomError(
            "secret_key",
            "SECRET_KEY {weakness} when {cause}; generate one with `openssl rand -hex 32`",
            {"weakness": weakness, "cause": cause},
        )


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach a service that listens on `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # another name, which may be any address
        return False
