"""Limits the open connections and the responses that wait in them, in all and for each client."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from app.addresses import find_client_address, group_of, is_trusted
from app.loop_turns import LoopTurns
from app.networks import Networks

CONNECTIONS = "connections"
"""The key in the state of the lifespan by which the application passes them to the protocol."""


MAX_UNREAD_BYTES = 134_217_728
"""The most bytes of responses that wait in memory until clients read them: 30 pages of 4 MB."""


class Connection(Protocol):
    """One open connection."""

    def count_unread(self) -> int:
        """How many bytes of responses wait until the client reads them."""

    def drop(self) -> None:
        """Close the connection at once, without a response."""


@dataclass
class _Client:
    """The connections of one client. `waiting` have no request in progress, and `unread` a response
    that waits until the client reads it, the oldest first."""

    is_limited: bool
    connections: int = 0
    waiting: dict[Connection, None] = field(default_factory=dict)
    unread: dict[Connection, None] = field(default_factory=dict)


class Connections:
    """The open connections of this process: at most `limit`, half of them from one client.

    At a limit, a new connection takes the place of the one that has waited longest for a request:
    idle, or with incomplete headers. If each connection has a request in progress, the new one is
    refused. Likewise at most `max_unread_bytes` of responses wait for their clients, half of them
    for one client; beyond it the connection that has waited longest for its client is dropped.
    Trusted proxies have many clients, so only the limits of all connections apply.
    """

    def __init__(
        self,
        limit: int,
        *,
        max_unread_bytes: int = MAX_UNREAD_BYTES,
        trusted_proxies: Networks = (),
    ) -> None:
        self.limit = limit
        self.client_limit = max(1, limit // 2)
        self.max_unread_bytes = max_unread_bytes
        self.turns = LoopTurns()
        self.trusted_proxies = trusted_proxies
        self._groups: dict[Connection, str] = {}
        self._clients: dict[str, _Client] = {}
        self._waiting: dict[Connection, None] = {}
        self._unread: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, connection: Connection, peer: str) -> bool:
        """Count a new connection, which waits for a request. Returns whether there was room."""
        is_limited = not is_trusted(peer, self.trusted_proxies)
        group = group_of(peer) if is_limited else f"proxy {peer}"
        client = self._clients.get(group, _Client(is_limited))
        is_full = is_limited and client.connections >= self.client_limit
        if is_full and not self._make_room(client.waiting):
            return False
        if len(self._groups) >= self.limit and not self._make_room(self._waiting):
            return False
        self._groups[connection] = group
        self._clients[group] = client
        client.connections += 1
        self.set_waiting(connection)
        return True

    def set_waiting(self, connection: Connection) -> None:
        """Note that the connection has no request in progress. It may be dropped from now on."""
        group = self._groups.get(connection)
        if group is not None:
            self._waiting[connection] = None
            self._clients[group].waiting[connection] = None

    def set_busy(self, connection: Connection) -> None:
        """Note that the connection has a request in progress."""
        group = self._groups.get(connection)
        if group is not None:
            self._waiting.pop(connection, None)
            self._clients[group].waiting.pop(connection, None)

    def set_unread(self, connection: Connection) -> None:
        """Note that a response waits until the client reads it. Beyond a limit this drops
        connections, perhaps this one."""
        group = self._groups.get(connection)
        if group is None:
            return
        client = self._clients[group]
        self._unread[connection] = client.unread[connection] = None
        if client.is_limited:
            self._drop_unread(client.unread, self.max_unread_bytes // 2)
        self._drop_unread(self._unread, self.max_unread_bytes)

    def set_read(self, connection: Connection) -> None:
        """Note that the client has read what waited for it."""
        group = self._groups.get(connection)
        if group is not None:
            self._unread.pop(connection, None)
            self._clients[group].unread.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Note that the connection is closed. Does nothing if it was not counted."""
        self.set_busy(connection)
        self.set_read(connection)
        group = self._groups.pop(connection, None)
        if group is None:
            return
        client = self._clients[group]
        client.connections -= 1
        if client.connections == 0:
            del self._clients[group]

    def find_client(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The client that a request on a connection from this peer counts for."""
        if self.trusted_proxies:
            name = b"x-forwarded-for"
            values = [v.decode("latin-1") for n, v in headers if n == name]
            peer = find_client_address(peer, values, self.trusted_proxies)
        return group_of(peer)

    def _make_room(self, waiting: dict[Connection, None]) -> bool:
        oldest = next(iter(waiting), None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.drop()
        return True

    def _drop_unread(self, unread: dict[Connection, None], limit: int) -> None:
        left = sum(connection.count_unread() for connection in unread)
        for connection in list(unread):
            if left <= limit:
                return
            left -= connection.count_unread()
            self.remove(connection)
            connection.drop()
