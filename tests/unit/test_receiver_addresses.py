"""Hosts of URLs that the service does not connect to. test_egress.py tests the addresses."""

from ipaddress import ip_network

import pytest

from app.errors import InvalidInputError
from app.receiver_addresses import AddressPolicy
from app.schemas.target_rules import check_url, read_host
from tests.unit.targets.test_egress import ALWAYS_DENIED, PRIVATE_AND_LOOPBACK, PUBLIC_ADDRESSES

DEFAULT = AddressPolicy()
WITH_PRIVATE_HOSTS = AddressPolicy(allow_private_hosts=True)
LOCAL_NAMES = ["localhost", "LocalHost", "localhost.", "api.localhost", "ⓛocalhost"]

FULL_WIDTH = "\uff11\uff12\uff17.0.0.1"
"""127.0.0.1 in other digits, which the URL's parser normalises."""


def explain(policy: AddressPolicy, url: str) -> str | None:
    """Why the policy denies the host of the URL, or None. The URL is valid."""
    check_url(url)
    return policy.explain_denied_host(read_host(url))


def make_url(host: str) -> str:
    return f"http://[{host}]:8080/" if ":" in host else f"http://{host}:8080/"


@pytest.mark.parametrize("host", [*PRIVATE_AND_LOOPBACK, *LOCAL_NAMES, FULL_WIDTH])
def test_a_private_host_is_denied_and_the_setting_is_named(host: str) -> None:
    assert "HTTP_ALLOW_PRIVATE_HOSTS" in (explain(DEFAULT, make_url(host)) or "")
    assert explain(WITH_PRIVATE_HOSTS, make_url(host)) is None


@pytest.mark.parametrize("host", [host for host in ALWAYS_DENIED if "%" not in host])
def test_a_special_address_is_denied_without_a_setting_that_would_not_help(host: str) -> None:
    for policy in (DEFAULT, WITH_PRIVATE_HOSTS):
        denial = explain(policy, make_url(host))
        assert denial is not None
        assert "HTTP_ALLOW_PRIVATE_HOSTS" not in denial


@pytest.mark.parametrize(
    "host", [*PUBLIC_ADDRESSES, "example.com", "localhost.example.com", "mylocalhost"]
)
def test_public_addresses_and_other_names_are_allowed(host: str) -> None:
    assert explain(DEFAULT, make_url(host)) is None


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "[fe80::1%eth0]"]
)
def test_another_spelling_of_an_address_is_no_valid_host(host: str) -> None:
    with pytest.raises(InvalidInputError):
        check_url(f"http://{host}:8080/")


def test_the_operators_networks_are_denied_and_the_setting_is_named() -> None:
    networks = (ip_network("127.0.0.0/8"), ip_network("1.1.1.0/24"))
    policy = AddressPolicy(allow_private_hosts=True, deny_networks=networks)
    for host in ("127.0.0.1", "1.1.1.1"):
        assert "HTTP_DENY_NETWORKS" in (explain(policy, make_url(host)) or "")
    assert explain(policy, make_url("10.0.0.1")) is None
    assert explain(policy, make_url("localhost")) is None  # ::1 is left
    both = AddressPolicy(allow_private_hosts=True, deny_networks=(*networks, ip_network("::1/128")))
    assert "HTTP_DENY_NETWORKS" in (explain(both, make_url("localhost")) or "")
