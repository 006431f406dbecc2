"""Addresses with which no client can be opened."""

from datetime import timedelta

import pytest

from app.errors import ConfigurationError
from app.repositories.mongo import open_client


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://",
        "mongodb://user:can/ary@db",
        "mongodb://user:can:ary@db",
        "mongodb://db:canary",
        "mongodb://[::1",
        "mongodb://db/?canary",
    ],
)
def test_a_malformed_address_is_named_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="MONGODB_URI is not an address") as caught:
        open_client(uri, timeout=timedelta(seconds=1))
    assert "ary" not in str(caught.value)


def test_options_that_contradict_each_other_are_named() -> None:
    uri = "mongodb://a:1,b:2/?directConnection=true"
    with pytest.raises(ConfigurationError, match=r"MONGODB_URI cannot be used: .*directConnection"):
        open_client(uri, timeout=timedelta(seconds=1))
