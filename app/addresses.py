"""Addresses of clients: which one a request comes from, and which ones count as one client."""

from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address

from app.networks import Address, Networks, is_in

_CUSTOMER_BITS = 64
"""A provider gives each customer at least this IPv6 network, so its addresses are one client."""


def parse_address(text: str) -> Address | None:
    """Parse an address. An IPv4 address that is mapped to IPv6 becomes an IPv4 address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def is_trusted(peer: str, trusted: Networks) -> bool:
    """Whether the peer of a connection is a trusted proxy."""
    address = parse_address(peer)
    return address is not None and is_in(address, trusted)


def find_client_address(peer: str, forwarded_for: Sequence[str], trusted: Networks) -> str:
    """The address of the client: the right-most untrusted entry of X-Forwarded-For.

    The header counts only if the peer is a trusted proxy. An entry that is no address, and all
    entries to the left of it, do not count. `forwarded_for` has the values of the header.
    """
    client = peer
    address = parse_address(peer)
    entries = [entry for value in forwarded_for for entry in value.split(",")]
    while address is not None and is_in(address, trusted) and entries:
        address = parse_address(_without_port(entries.pop().strip()))
        if address is not None:
            client = str(address)
    return client


def group_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, _CUSTOMER_BITS), strict=False))
    return address if parsed is None else str(parsed)


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
