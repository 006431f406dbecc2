"""Limits the open connections and the bytes that wait in them, in all and for each client."""

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

MAX_RECEIVED_BYTES = 134_217_728
"""The most bytes of requests that wait in memory for their responses: 512 bodies of 256 KB."""


class Connection(Protocol):
    """One open connection."""

    def drop(self) -> None:
        """Close the connection at once, without a response."""


class _Bytes:
    """The bytes that wait in connections, at most `limit`. The connection in which bytes have
    waited longest is the first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._sizes: dict[Connection, int] = {}

    def set_size(self, connection: Connection, size: int) -> None:
        self._total += size - self._sizes.get(connection, 0)
        if size:
            self._sizes[connection] = size
        else:
            self._sizes.pop(connection, None)

    def find_oldest(self) -> Connection | None:
        return next(iter(self._sizes), None)

    def find_excess(self) -> Connection | None:
        """The connection to drop because the limit is exceeded."""
        return self.find_oldest() if self._total > self._limit else None


@dataclass
class _Group:
    """The connections that share limits: those of one client, or all.

    `waiting` have no request in progress, the oldest first. `unread` are bytes of responses,
    `received` those of requests.
    """

    limit: int
    unread: _Bytes
    received: _Bytes
    connections: int = 0
    waiting: dict[Connection, None] = field(default_factory=dict)

    def find_replaceable(self) -> Connection | None:
        """The connection that makes room for a new one."""
        return next(iter(self.waiting), None) or self.unread.find_oldest()


class Connections:
    """The open connections of this process: at most `limit`, half of them from one client.

    At a limit, a new connection takes the place of the one that has waited longest for a request:
    idle, or with an incomplete one. If there is none, it takes the place of the one that has waited
    longest for its client to read a response. If all others are busy, the new one is refused.

    At most `max_unread_bytes` of responses wait until their clients read them, and at most
    `max_received_bytes` of requests wait until they are complete and answered, half of them for one
    client. Beyond it the connection in which such bytes have waited longest is dropped.

    Trusted proxies have many clients, so only the limits of all connections apply.
    """

    def __init__(
        self,
        limit: int,
        *,
        max_unread_bytes: int = MAX_UNREAD_BYTES,
        max_received_bytes: int = MAX_RECEIVED_BYTES,
        trusted_proxies: Networks = (),
    ) -> None:
        self.limit = limit
        self.max_unread_bytes = max_unread_bytes
        self.max_received_bytes = max_received_bytes
        self.turns = LoopTurns()
        self.trusted_proxies = trusted_proxies
        self._all = self._make_group(1)
        self._clients: dict[str, _Group] = {}
        self._names: dict[Connection, str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, connection: Connection, peer: str) -> bool:
        """Count a new connection, which waits for a request. Returns whether there was room."""
        is_proxy = is_trusted(peer, self.trusted_proxies)
        name = f"proxy {peer}" if is_proxy else group_of(peer)
        client = self._clients.get(name) or self._make_group(1 if is_proxy else 2)
        for group in (client, self._all):
            if group.connections >= group.limit and not self._drop(group.find_replaceable()):
                return False
        self._names[connection] = name
        self._clients[name] = client
        for group in (client, self._all):
            group.connections += 1
        self.set_waiting(connection)
        return True

    def set_waiting(self, connection: Connection) -> None:
        """Note that the connection has no request in progress. It may be dropped from now on."""
        for group in self._groups_of(connection):
            group.waiting[connection] = None

    def set_busy(self, connection: Connection) -> None:
        """Note that the connection has a request in progress."""
        for group in self._groups_of(connection):
            group.waiting.pop(connection, None)

    def set_unread(self, connection: Connection, size: int) -> None:
        """Note how many bytes of a response wait until the client reads them. Beyond a limit this
        drops connections, perhaps this one."""
        self._set_size([group.unread for group in self._groups_of(connection)], connection, size)

    def set_received(self, connection: Connection, size: int) -> None:
        """Note how many bytes of requests wait until these are complete and answered. Beyond a
        limit this drops connections, perhaps this one."""
        self._set_size([group.received for group in self._groups_of(connection)], connection, size)

    def remove(self, connection: Connection) -> None:
        """Note that the connection is closed. Does nothing if it was not counted."""
        groups = self._groups_of(connection)
        name = self._names.pop(connection, "")
        for group in groups:
            group.connections -= 1
            group.waiting.pop(connection, None)
            group.unread.set_size(connection, 0)
            group.received.set_size(connection, 0)
            if group.connections == 0:
                self._clients.pop(name, None)

    def find_client(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The client that a request on a connection from this peer counts for."""
        if self.trusted_proxies:
            name = b"x-forwarded-for"
            values = [v.decode("latin-1") for n, v in headers if n == name]
            peer = find_client_address(peer, values, self.trusted_proxies)
        return group_of(peer)

    def _make_group(self, parts: int) -> _Group:
        """A group that may have one of this number of equal parts of the limits."""
        return _Group(
            max(1, self.limit // parts),
            _Bytes(self.max_unread_bytes // parts),
            _Bytes(self.max_received_bytes // parts),
        )

    def _groups_of(self, connection: Connection) -> tuple[_Group, ...]:
        """The group of the connection's client, and that of all. None if it is not counted."""
        name = self._names.get(connection)
        return () if name is None else (self._clients[name], self._all)

    def _set_size(self, groups: list[_Bytes], connection: Connection, size: int) -> None:
        for group in groups:
            group.set_size(connection, size)
        for group in groups:
            while self._drop(group.find_excess()):
                pass

    def _drop(self, connection: Connection | None) -> bool:
        """Drop the connection, if there is one. Returns whether there was one."""
        if connection is None:
            return False
        self.remove(connection)
        connection.drop()
        return True
