"""Checks of single values of settings."""

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from app.networks import Networks, parse_networks

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


def _read_networks(value: object) -> object:
    """Networks that are separated by commas. Raises PydanticCustomError."""
    return parse_networks(value) if isinstance(value, str) else value


NetworkList = Annotated[Networks, NoDecode, BeforeValidator(_read_networks)]
"""Networks and addresses that are separated by commas."""
