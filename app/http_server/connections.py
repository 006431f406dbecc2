"""Counts the open connections, in all and for each client, and makes room for new ones."""

from dataclasses import dataclass, field
from typing import Protocol

from app.addresses import group_of, is_trusted
from app.http_server.turns import Turns
from app.networks import Networks

CONNECTIONS = "connections"
"""The key in the state of the lifespan by which the application passes them to the protocol."""


class Connection(Protocol):
    """One open connection."""

    def drop(self) -> None:
        """Close the connection at once, without a response."""


@dataclass
class _Client:
    """The connections of one client. `waiting` have no request in progress, the oldest first."""

    connections: int = 0
    waiting: dict[Connection, None] = field(default_factory=dict)


class Connections:
    """The open connections of this process: at most `limit`, half of them from one client.

    At a limit, a new connection takes the place of the one that has waited longest for a request:
    idle, or with incomplete headers. If each connection has a request in progress, the new one is
    refused. Trusted proxies have many clients, so only the limit of all connections applies.
    """

    def __init__(self, limit: int, *, trusted_proxies: Networks = ()) -> None:
        self.limit = limit
        self.client_limit = max(1, limit // 2)
        self.turns = Turns()
        self.trusted_proxies = trusted_proxies
        self._groups: dict[Connection, str] = {}
        self._clients: dict[str, _Client] = {}
        self._waiting: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, connection: Connection, peer: str) -> bool:
        """Count a new connection, which waits for a request. Returns whether there was room."""
        group = group_of(peer)
        client = self._clients.get(group)
        if client is not None and client.connections >= self.client_limit:
            limited = not is_trusted(peer, self.trusted_proxies)
            if limited and not self._make_room(client.waiting):
                return False
        if len(self._groups) >= self.limit and not self._make_room(self._waiting):
            return False
        self._groups[connection] = group
        self._clients.setdefault(group, _Client()).connections += 1
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

    def remove(self, connection: Connection) -> None:
        """Note that the connection is closed. Does nothing if it was not counted."""
        self.set_busy(connection)
        group = self._groups.pop(connection, None)
        if group is None:
            return
        client = self._clients[group]
        client.connections -= 1
        if client.connections == 0:
            del self._clients[group]

    def _make_room(self, waiting: dict[Connection, None]) -> bool:
        oldest = next(iter(waiting), None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.drop()
        return True
