"""Which connections the service may open. session.py opens connections by this policy."""

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
from app.receiver_addresses import AddressPolicy

_log = structlog.get_logger(__name__)


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

    It has the `errno` of a refused connection, so the same code handles both errors.
    """

    def __init__(self) -> None:
        super().__init__(errno.ECONNREFUSED, "Connection refused")


@dataclass(frozen=True, slots=True)
class EgressPolicy(AddressPolicy):
    """Decides which connections the service may open."""

    def allows(self, address: str, port: int) -> bool:
        """Whether the service may connect. `address` is an IP address as text; any other text,
        such as a name, is not allowed."""
        if not is_allowed_port(port):
            return False
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return self.explain_denied_address(ip) is None

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
