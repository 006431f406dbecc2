"""How many connections there may be, and which one makes room for a new one."""

import pytest

from app.http_server.connections import Connections
from app.networks import parse_networks
from tests.support.http_protocol import GET, Application, connect


class Client:
    """A connection of this name that notes when it is dropped."""

    def __init__(self, name: str, dropped: list[str]) -> None:
        self._name = name
        self._dropped = dropped
        self.unread = 0

    def count_unread(self) -> int:
        return self.unread

    def drop(self) -> None:
        self._dropped.append(self._name)


@pytest.fixture
def dropped() -> list[str]:
    return []


def add(connections: Connections, peers: list[str], dropped: list[str]) -> list[Client]:
    clients = [Client(f"{n} {peer}", dropped) for n, peer in enumerate(peers)]
    for client, peer in zip(clients, peers, strict=True):
        assert connections.add(client, peer)
    return clients


def test_a_new_connection_replaces_the_one_that_has_waited_longest(dropped: list[str]) -> None:
    connections = Connections(4)
    first, *_ = add(connections, ["a", "b", "c", "d"], dropped)
    connections.set_busy(first)
    add(connections, ["e"], dropped)
    assert dropped == ["1 b"]
    connections.set_waiting(first)
    add(connections, ["f", "g"], dropped)
    assert dropped == ["1 b", "2 c", "3 d"]
    assert len(connections) == 4


def test_a_new_connection_is_refused_if_all_are_busy(dropped: list[str]) -> None:
    connections = Connections(4)
    clients = add(connections, ["a", "b", "c", "d"], dropped)
    for client in clients:
        connections.set_busy(client)
    assert not connections.add(Client("new", dropped), "e")
    assert dropped == []
    connections.remove(clients[0])
    assert connections.add(Client("new", dropped), "e")


def test_one_address_has_half_of_the_connections(dropped: list[str]) -> None:
    connections = Connections(4)
    other, *_ = add(connections, ["b", "a", "a", "a"], dropped)
    assert dropped == ["1 a"]
    assert len(connections) == 3
    connections.set_busy(other)
    add(connections, ["a"], dropped)
    assert dropped == ["1 a", "2 a"]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network_of_64_bits(
    dropped: list[str], first: str, second: str, same: bool
) -> None:
    connections = Connections(2)
    add(connections, [first, second], dropped)
    assert dropped == ([f"0 {first}"] if same else [])


def test_trusted_proxies_have_only_the_limit_of_all_connections(dropped: list[str]) -> None:
    connections = Connections(4, trusted_proxies=parse_networks("10.0.0.0/8"))
    add(connections, ["10.1.2.3"] * 4, dropped)
    assert dropped == []
    add(connections, ["10.1.2.3"], dropped)
    assert dropped == ["0 10.1.2.3"]


def test_a_connection_is_counted_until_it_is_removed(dropped: list[str]) -> None:
    connections = Connections(4)
    [client] = add(connections, ["a"], dropped)
    for _ in range(2):
        connections.remove(client)
    connections.set_waiting(client)
    connections.set_busy(client)
    assert len(connections) == 0
    add(connections, ["a", "a"], dropped)
    assert dropped == []


def wait_for_readers(connections: Connections, clients: list[Client], *sizes: int) -> None:
    for client, size in zip(clients, sizes, strict=True):
        client.unread = size
        connections.set_unread(client)


def test_unread_responses_have_a_limit_in_all(dropped: list[str]) -> None:
    connections = Connections(100, max_unread_bytes=100)
    clients = add(connections, ["a", "b", "c"], dropped)
    wait_for_readers(connections, clients, 40, 30, 30)
    assert dropped == []
    wait_for_readers(connections, add(connections, ["d"], dropped), 50)
    assert dropped == ["0 a", "1 b"]
    clients[2].unread = 0
    wait_for_readers(connections, add(connections, ["e"], dropped), 50)
    assert dropped == ["0 a", "1 b"]


def test_unread_responses_of_one_client_have_half_of_the_limit(dropped: list[str]) -> None:
    connections = Connections(100, max_unread_bytes=100)
    wait_for_readers(connections, add(connections, ["b", "a", "a"], dropped), 20, 30, 20)
    assert dropped == []
    wait_for_readers(connections, add(connections, ["a"], dropped), 20)
    assert dropped == ["1 a"]
    wait_for_readers(connections, add(connections, ["a"], dropped), 51)
    assert dropped == ["1 a", "2 a", "0 a", "0 a"]


def test_what_was_read_does_not_count(dropped: list[str]) -> None:
    connections = Connections(100, max_unread_bytes=100)
    clients = add(connections, ["a", "a"], dropped)
    wait_for_readers(connections, clients, 50, 0)
    connections.set_read(clients[0])
    wait_for_readers(connections, clients[1:], 50)
    assert dropped == []


def test_unread_responses_of_trusted_proxies_have_only_the_limit_in_all(
    dropped: list[str],
) -> None:
    trusted = parse_networks("10.0.0.0/8")
    connections = Connections(100, max_unread_bytes=100, trusted_proxies=trusted)
    wait_for_readers(connections, add(connections, ["10.1.2.3"] * 2, dropped), 50, 50)
    assert dropped == []


async def test_a_connection_with_an_incomplete_body_makes_room(dropped: list[str]) -> None:
    connections = Connections(2)
    slow = connect(Application(), connections=connections)
    slow.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell")
    new = connect(Application(), connections=connections)
    assert slow.transport.aborted
    slow.protocol.connection_lost(None)
    await slow.respond()
    new.send(GET)
    third = connect(Application(), connections=connections)
    assert not new.transport.is_closing()
    assert third.statuses == [503]
    assert third.transport.closed
    await new.respond()
    assert new.statuses == [200]
    connect(Application(), connections=connections)
    assert new.transport.aborted


async def test_a_closed_connection_is_not_counted() -> None:
    connections = Connections(2)
    for _ in range(5):
        connection = connect(Application(), connections=connections)
        connection.send(GET)
        await connection.respond()
        connection.protocol.connection_lost(None)
        assert len(connections) == 0
