"""Which address a request comes from, and what is shown of the address of a store."""

from ipaddress import ip_network

import pytest

from app.addresses import find_client_address, is_trusted
from app.networks import parse_networks

TRUSTED = parse_networks("10.0.0.0/8, fd00::1")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("fd00::1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7,"], "10.0.0.1"),
        ("", ["198.51.100.7"], ""),
    ],
)
def test_the_client_is_the_right_most_untrusted_entry(
    peer: str, forwarded_for: list[str], client: str
) -> None:
    assert find_client_address(peer, forwarded_for, TRUSTED) == client


@pytest.mark.parametrize("network", ["::ffff:10.20.0.0/112", "::ffff:a14:0/112"])
def test_an_ipv4_network_that_is_mapped_to_ipv6_contains_its_ipv4_addresses(network: str) -> None:
    assert parse_networks(network) == parse_networks("10.20.0.0/16")
    assert is_trusted("10.20.3.4", parse_networks(network))
    assert is_trusted("::ffff:10.20.3.4", parse_networks(network))
    assert not is_trusted("10.21.0.0", parse_networks(network))


def test_a_single_mapped_address_and_all_of_them_are_ipv4() -> None:
    assert parse_networks("::ffff:10.20.0.1") == parse_networks("10.20.0.1")
    assert parse_networks("::ffff:0:0/96") == parse_networks("0.0.0.0/0")
    assert parse_networks("::/0, fd00::/8") == (ip_network("::/0"), ip_network("fd00::/8"))


def test_without_trusted_proxies_the_header_does_not_count() -> None:
    assert find_client_address("127.0.0.1", ["198.51.100.7"], ()) == "127.0.0.1"
