"""Lists of IP networks, as settings give them: `10.0.0.0/8,2001:db8::/32`."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from pydantic_core import PydanticCustomError

Network = IPv4Network | IPv6Network
Networks = tuple[Network, ...]

MAX_NETWORKS = 100


def parse_networks(value: object) -> object:
    """Return the networks in a text that separates them by commas, and any other value as it is.

    Raises PydanticCustomError, which names an invalid network by its number.
    """
    if not isinstance(value, str):
        return value
    entries = [entry.strip() for entry in value.split(",")]
    if len(entries) > MAX_NETWORKS:
        raise PydanticCustomError("networks", f"must have at most {MAX_NETWORKS} networks")
    return tuple(_parse_network(number, entry) for number, entry in enumerate(entries, start=1))


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
    return network
