"""Checks of single values of settings."""

from pydantic_core import PydanticCustomError

from app.addresses import parse_networks

_DNS_SERVER = r"\s*([0-9.]+|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?\s*"
DNS_SERVERS = rf"^{_DNS_SERVER}(,{_DNS_SERVER})*$"


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


def check_networks(value: str | None) -> str | None:
    try:
        parse_networks(value) if value else None
    except ValueError:
        raise PydanticCustomError(
            "networks",
            "must be IP addresses or networks without host bits, separated by commas,"
            " such as 10.0.0.0/8,fd00::1",
        ) from None
    return value
