"""Which addresses of receivers the service may connect to. Pure.

The same rule is applied to the host in the URL of a job that is saved, and to each address that a
connection is opened to.
"""

import ipaddress
from dataclasses import dataclass

from app.networks import Address, Networks, is_in


def _networks(*names: str) -> Networks:
    return tuple(ipaddress.ip_network(name) for name in names)


# All other IPv6 addresses are special or not assigned: loopback, local and multicast addresses, and
# those that contain an IPv4 address (mapped, translated, NAT64).
GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")

# Denied in any case, unlike PRIVATE_NETWORKS. Python's `is_global` is not used, because it returns
# True for several of these: multicast, the address at which Azure serves every virtual machine, and
# 6to4 addresses, which contain an IPv4 address.
DENIED_NETWORKS = _networks(
    "0.0.0.0/8",  # this host
    "100.64.0.0/10",  # shared by carriers and clouds
    "169.254.0.0/16",  # link-local: cloud metadata
    "192.0.0.0/24",  # protocol assignments: Oracle's metadata
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
    "168.63.129.16/32",  # Azure's host
    "2001::/23",  # protocol assignments: Teredo, ORCHID
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4
    "3fff::/20",  # documentation
)

PRIVATE_NETWORKS = _networks(
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
)

# Metadata services inside fc00::/7. `allow_private_hosts` allows fc00::/7, but not these.
METADATA_NETWORKS = _networks(
    "fd00:ec2::/32",  # Amazon
    "fd20:ce::/32",  # Google
    "fd00:c1::/32",  # Oracle
    "fd00:42::42/128",  # Scaleway
)

_LOOPBACK_ADDRESSES = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))

_PRIVATE = (
    "this service does not call private and loopback addresses; use a public host, or ask the "
    "operator to set HTTP_ALLOW_PRIVATE_HOSTS=true"
)
_DENIED = "the operator of this service has denied this address (HTTP_DENY_NETWORKS)"
_SPECIAL = (
    "this service does not call link-local, multicast, documentation and other special addresses; "
    "use a public host"
)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Decides which addresses the service may connect to.

    `allow_private_hosts` allows loopback (127/8, ::1) and the private ranges (10/8, 172.16/12,
    192.168/16, fc00::/7) for users who run their own receivers. All other special addresses stay
    denied: link-local addresses, the metadata addresses of all clouds, 0/8, multicast,
    documentation, and every address that contains another one (such as `::ffff:127.0.0.1`).
    100.64/10 stays denied too, because one cloud has its metadata service at 100.100.100.200.

    `deny_networks` are denied in any case.
    """

    allow_private_hosts: bool = False
    deny_networks: Networks = ()

    def explain_denied_address(self, address: Address) -> str | None:
        """Why the service does not connect to the address, or None if it does."""
        if is_in(address, self.deny_networks):
            return _DENIED
        if is_in(address, PRIVATE_NETWORKS) and not is_in(address, METADATA_NETWORKS):
            return None if self.allow_private_hosts else _PRIVATE
        if address.version == 6 and address not in GLOBAL_IPV6:
            return _SPECIAL
        return _SPECIAL if is_in(address, DENIED_NETWORKS) else None

    def explain_denied_host(self, host: str) -> str | None:
        """Why the service does not connect to the host of a URL, or None if it may.

        The host is an address without brackets, or a name. Of names, only `localhost` and those
        below it have known addresses: the loopback addresses (RFC 6761).
        """
        name = host.lower().removesuffix(".")
        if name == "localhost" or name.endswith(".localhost"):
            denials = [self.explain_denied_address(address) for address in _LOOPBACK_ADDRESSES]
            return denials[0] if all(denials) else None
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return None
        return self.explain_denied_address(address)
