"""Which addresses the service may connect to. session.py opens connections by this policy."""

import errno
import ipaddress
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import aiohttp
import structlog

from app.models.target import is_allowed_port
from app.networks import Networks, is_in

_log = structlog.get_logger(__name__)


def _networks(*names: str) -> Networks:
    return tuple(ipaddress.ip_network(name) for name in names)


# All other IPv6 addresses are special or not assigned: loopback, local and multicast addresses, and
# those that contain an IPv4 address (mapped, translated, NAT64).
GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")

# Python's `is_global` is not used, because it returns True for several of these: multicast, the
# address at which Azure serves every virtual machine, and 6to4 addresses, which contain an IPv4
# address.
DENIED_NETWORKS = _networks(
    "0.0.0.0/8",  # this host
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # shared by carriers and clouds
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local: cloud metadata
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments: Oracle's metadata
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",  # private
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

UNSENT_TIMEOUT_MILLISECONDS = 60_000
"""How long the kernel keeps a connection whose receiver reads nothing. asyncio closes the socket of
a cancelled request only after all data are sent, so without a limit it might never close."""

RECEIVE_BUFFER_BYTES = 16_384
"""The kernel doubles this. TLS gets as much at once in one turn of the event loop, whatever it is.
With the kernel's own choice (several MB) uvloop passes on 256 KB. A larger buffer is not faster:
no more than 64 KB of a response are read."""


_NOBODY: Mapping[str, str] = {}
_ids: ContextVar[Mapping[str, str]] = ContextVar("ids_of_connections", default=_NOBODY)


@contextmanager
def connect_for(*, job_id: str, owner_id: str) -> Iterator[None]:
    """Name this job and its owner in the log lines of connections in the `with` statement."""
    # structlog's own context variables would take 30 microseconds of each attempt.
    token = _ids.set({"job_id": job_id, "owner_id": owner_id})
    try:
        yield
    finally:
        _ids.reset(token)


class EgressDeniedError(ConnectionRefusedError):
    """The policy does not allow this connection.

    It has the `errno` of a refused connection. So the same code handles both errors, and users
    cannot distinguish a blocked address from an address where no server listens.
    """

    def __init__(self) -> None:
        super().__init__(errno.ECONNREFUSED, "Connection refused")


@dataclass(frozen=True, slots=True)
class EgressPolicy:
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

    def allows(self, address: str, port: int) -> bool:
        """Whether the service may connect. `address` is an IP address as text; any other text,
        such as a name, is not allowed."""
        if not is_allowed_port(port):
            return False
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if is_in(ip, self.deny_networks):
            return False
        if self.allow_private_hosts and is_in(ip, PRIVATE_NETWORKS):
            return not is_in(ip, METADATA_NETWORKS)
        if ip.version == 6 and ip not in GLOBAL_IPV6:
            return False
        return not is_in(ip, DENIED_NETWORKS)

    def open_socket(self, addr_info: aiohttp.AddrInfoType) -> socket.socket:
        """Open a socket for an address. The session's connector uses this as `socket_factory`.

        The connector calls it for exactly the address that it connects to next, whether that
        address comes from a resolver or from the URL. Raises EgressDeniedError if the policy does
        not allow the address.
        """
        family, kind, protocol, _, (address, port, *_rest) = addr_info
        if not self.allows(address, port):
            _log.warning("egress_denied", address=address, port=port, **_ids.get())
            raise EgressDeniedError
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            opened.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNSENT_TIMEOUT_MILLISECONDS
            )
        return opened
