"""How the address of a store is shown in messages."""

import pytest

from app.store_addresses import describe_store


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mongodb://me:canary@a.example:1,b.example/db?replicaSet=rs", "a.example:1,b.example"),
        ("mongodb+srv://cluster.example/?password=canary", "cluster.example"),
        ("redis://:canary@[::1]:6379/0", "[::1]:6379"),
        ("unix://:canary@/run/redis.sock?db=0", "/run/redis.sock"),
        ("redis://me:1/canary@cache.example", "the host in its URI"),
        ("redis://canary#x@cache.example", "the host in its URI"),
        ("mongodb://canary?x@db.example", "the host in its URI"),
    ],
)
def test_the_address_of_a_store_is_shown_without_credentials(uri: str, shown: str) -> None:
    assert describe_store(uri) == shown
