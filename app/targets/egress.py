"""The way out: which addresses the service may connect to, and the one session that obeys."""

import errno
import ipaddress
import socket
from dataclasses import dataclass

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

_log = structlog.get_logger(__name__)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*names: str) -> tuple[IpNetwork, ...]:
    return tuple(ipaddress.ip_network(name) for name in names)


# `is_global` would pass several of these: it knows neither what an IPv6 address embeds (mapped,
# NAT64, 6to4, Teredo) nor multicast nor the address at which Azure answers every virtual machine.
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
    "::/96",  # unspecified, loopback, IPv4-compatible
    "::ffff:0:0/96",  # IPv4-mapped
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",  # NAT64, local
    "100::/64",  # discard
    "2001::/23",  # protocol assignments: Teredo, ORCHID
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4
    "3fff::/20",  # documentation
    "5f00::/16",  # segment routing
    "fc00::/7",  # unique local
    "fe80::/10",  # link-local
    "fec0::/10",  # site-local
    "ff00::/8",  # multicast
)

PRIVATE_NETWORKS = _networks(
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
)

# Metadata services inside fc00::/7, which `allow_private_hosts` must not open along with it.
METADATA_NETWORKS = _networks(
    "fd00:ec2::/32",  # Amazon
    "fd20:ce::/32",  # Google
    "fd00:c1::/32",  # Oracle
    "fd00:42::42/128",  # Scaleway
)

WELL_KNOWN_PORTS = frozenset({80, 443})
FIRST_UNPRIVILEGED_PORT = 1024

MAX_ADDRESSES = 16
"""Addresses tried of one name. It may have thousands, and aiohttp takes n² / 2 steps for n."""


UNSENT_TIMEOUT_MILLISECONDS = 60_000
"""How long the kernel keeps a connection whose receiver takes nothing of what is to be sent.
asyncio closes a cut request only when all is sent: without a limit it could hold a socket for ever.
"""


class EgressDeniedError(ConnectionRefusedError):
    """The policy does not allow this connection.

    It carries the `errno` of a refused connection, so that what handles one handles the other and
    nobody can tell an address that is blocked from one where nothing listens.
    """

    def __init__(self) -> None:
        super().__init__(errno.ECONNREFUSED, "Connection refused")


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Decides where the service may connect to.

    `allow_private_hosts` opens loopback (127/8, ::1) and the private ranges (10/8, 172.16/12,
    192.168/16, fc00::/7) for people who run their own receivers. It opens nothing else:
    link-local and every cloud's metadata address, 0/8, multicast, documentation and all addresses
    that embed another (also `::ffff:127.0.0.1`) stay denied. So does 100.64/10, where a cloud
    keeps its metadata service at 100.100.100.200.
    """

    allow_private_hosts: bool = False

    def allows(self, address: str, port: int) -> bool:
        """Whether a connection may be made. `address` is the text of an IP address, not a name;
        what does not read as one is not allowed."""
        if port not in WELL_KNOWN_PORTS and port < FIRST_UNPRIVILEGED_PORT:
            return False
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if self.allow_private_hosts and _is_in(ip, PRIVATE_NETWORKS):
            return not _is_in(ip, METADATA_NETWORKS)
        return not _is_in(ip, DENIED_NETWORKS)

    def open_socket(self, addr_info: aiohttp.AddrInfoType) -> socket.socket:
        """The `socket_factory` of the connector: a socket for the very address that is about to
        be connected to, be it the answer of a resolver or a literal in the URL.

        Raises EgressDeniedError where the policy says no.
        """
        family, kind, protocol, _, (address, port, *_rest) = addr_info
        if not self.allows(address, port):
            _log.warning("egress_denied", address=address, port=port)
            raise EgressDeniedError
        opened = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            opened.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNSENT_TIMEOUT_MILLISECONDS
            )
        return opened


def _is_in(ip: IpAddress, networks: tuple[IpNetwork, ...]) -> bool:
    return any(ip in network for network in networks)


class FirstAddressesResolver(AbstractResolver):
    """Another resolver's answers, cut to the first `MAX_ADDRESSES`."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return (await self._resolver.resolve(host, port, family))[:MAX_ADDRESSES]

    async def close(self) -> None:
        await self._resolver.close()


class BrokenConnectionError(aiohttp.ClientConnectionError):
    """The connection broke after it was made: whether the request was read is unknown."""


async def send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again by itself.

    For GET, HEAD, PUT and DELETE it does so when the connection breaks, even a new one. An attempt
    would then reach the receiver twice under one number. It knows the errors by type; this
    client middleware gives them another.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise BrokenConnectionError(str(error)) from error


def open_session(
    *, allow_private_hosts: bool, limit: int, resolver: AbstractResolver | None = None
) -> aiohttp.ClientSession:
    """The session through which every http target sends; the caller closes it.

    `limit` is the number of connections at a time (0: no limit); a request over it waits, within
    its deadline. `resolver` replaces the system's. There is no timeout here, the target keeps it;
    no cookies, no proxy of the environment, no decompression.

    Every request has a connection of its own. A kept one may be closed by the receiver in the
    moment of its reuse (a job that runs every 5 seconds meets the 5 second keep-alive of common
    servers each time), and then an attempt would fail, or would have to be sent twice.
    """
    connector = aiohttp.TCPConnector(
        socket_factory=EgressPolicy(allow_private_hosts).open_socket,
        resolver=FirstAddressesResolver(resolver or aiohttp.ThreadedResolver()),
        limit=limit,
        force_close=True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(),
        middlewares=(send_once,),
        auto_decompress=False,
        trust_env=False,
    )
