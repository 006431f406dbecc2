"""Lists of IP networks, as settings give them: `10.0.0.0/8,2001:db8::/32`."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pydantic_core import PydanticCustomError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Networks = tuple[Network, ...]

MAX_NETWORKS = 100

_MAPPED_BITS = 96
"""The length of ::ffff:0:0/96, the IPv6 network of the IPv4 addresses."""


def parse_networks(text: str) -> Networks:
    """Return the networks and addresses in a text that separates them by commas.

    Raises PydanticCustomError, which names an invalid network by its number.
    """
    entries = [entry.strip() for entry in text.split(",")]
    if len(entries) > MAX_NETWORKS:
        raise PydanticCustomError("networks", f"must have at most {MAX_NETWORKS} networks")
    return tuple(_parse_network(number, entry) for number, entry in enumerate(entries, start=1))


def is_in(address: Address, networks: Networks) -> bool:
    """Whether one of the networks contains the address."""
    return any(address in network for network in networks)


def _parse_network(number: int, entry: str) -> Network:
    try:
        network = ip_network(entry, strict=False)
        address = ip_address(entry.partition("/")[0])
    except ValueError:
        raise PydanticCustomError(
            "networks",
            "must be networks such as 203.0.113.0/24 or 2001:db8::/32, separated by commas;"
            f" number {number} is not a network",
        ) from None
    if network.network_address != address:
        raise PydanticCustomError(
            "networks",
            "must have the first address of each network before the slash;"
            f" number {number} has a later address",
        )
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    # Addresses are compared as IPv4 (`parse_address`), so a mapped network would contain none.
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
