"""How many connections there may be, and which one makes room for a new one."""

from collections.abc import Callable

import pytest

from app.http_server.connections import Connections
from app.networks import Networks, parse_networks
from tests.support.http_protocol import GET, Application, connect


class Client:
    """A connection of this name that notes when it is dropped."""

    def __init__(self, name: str, dropped: list[str]) -> None:
        self._name = name
        self._dropped = dropped

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


def test_if_none_waits_the_one_makes_room_whose_client_has_not_read_for_longest(
    dropped: list[str],
) -> None:
    connections = Connections(4)
    clients = add(connections, ["a", "a", "b", "b"], dropped)
    for client in clients:
        connections.set_busy(client)
    for client in (clients[2], clients[1], clients[0]):
        connections.set_unread(client, 10)
    for peer, replaced in (("a", "1 a"), ("c", "2 b")):
        [new] = add(connections, [peer], dropped)
        connections.set_busy(new)
        assert dropped[-1] == replaced
    connections.set_unread(clients[0], 0)
    assert not connections.add(Client("new", dropped), "d")
    assert dropped == ["1 a", "2 b"]


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


SetSize = Callable[[Connections, Client, int], None]

for_unread_and_received = pytest.mark.parametrize(
    "set_size", [Connections.set_unread, Connections.set_received]
)


def make_connections(*, trusted_proxies: Networks = ()) -> Connections:
    return Connections(
        100,
        max_unread_bytes=100,
        max_received_bytes=100,
        trusted_proxies=trusted_proxies,
    )


@for_unread_and_received
def test_bytes_that_wait_have_a_limit_in_all(dropped: list[str], set_size: SetSize) -> None:
    connections = make_connections()
    clients = add(connections, ["a", "b", "c", "d", "e"], dropped)
    for client, size in zip(clients, (40, 30, 30), strict=False):
        set_size(connections, client, size)
    assert dropped == []
    set_size(connections, clients[3], 50)
    assert dropped == ["0 a", "1 b"]
    set_size(connections, clients[2], 0)
    set_size(connections, clients[4], 50)
    assert dropped == ["0 a", "1 b"]


@for_unread_and_received
def test_bytes_that_wait_for_one_client_have_half_of_the_limit(
    dropped: list[str], set_size: SetSize
) -> None:
    connections = make_connections()
    clients = add(connections, ["b", "a", "a", "a", "a"], dropped)
    for client, size in zip(clients, (20, 30, 20), strict=False):
        set_size(connections, client, size)
    assert dropped == []
    set_size(connections, clients[3], 20)
    assert dropped == ["1 a"]
    set_size(connections, clients[4], 51)
    assert dropped == ["1 a", "2 a", "3 a", "4 a"]
    assert len(connections) == 1
    set_size(connections, clients[0], 50)
    assert len(dropped) == 4


@for_unread_and_received
def test_a_connection_keeps_its_place_while_bytes_wait_in_it(
    dropped: list[str], set_size: SetSize
) -> None:
    connections = make_connections()
    clients = add(connections, ["a", "a", "a"], dropped)
    for n, size in ((0, 10), (1, 10), (0, 20), (2, 21)):
        set_size(connections, clients[n], size)
    assert dropped == ["0 a"]
    for n, size in ((1, 0), (1, 29), (2, 22)):
        set_size(connections, clients[n], size)
    assert dropped == ["0 a", "2 a"]


@for_unread_and_received
def test_bytes_that_wait_for_trusted_proxies_have_only_the_limit_in_all(
    dropped: list[str], set_size: SetSize
) -> None:
    connections = make_connections(trusted_proxies=parse_networks("10.0.0.0/8"))
    clients = add(connections, ["10.1.2.3"] * 3, dropped)
    for client in clients[:2]:
        set_size(connections, client, 50)
    assert dropped == []
    set_size(connections, clients[2], 1)
    assert dropped == ["0 10.1.2.3"]


@for_unread_and_received
def test_bytes_of_a_closed_connection_do_not_count(dropped: list[str], set_size: SetSize) -> None:
    connections = make_connections()
    clients = add(connections, ["a", "a"], dropped)
    set_size(connections, clients[0], 50)
    connections.remove(clients[0])
    set_size(connections, clients[0], 50)
    set_size(connections, clients[1], 50)
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


async def test_a_lost_connection_keeps_no_body_while_its_request_waits_to_start() -> None:
    connections, app = Connections(10), Application()
    others = [connect(app, connections=connections) for _ in range(3)]
    for other in others:
        other.send(GET)
    lost = connect(app, connections=connections)
    lost.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"a" * 50_000)
    assert len(lost.protocol.cycle.body) == 50_000
    lost.protocol.connection_lost(None)
    assert len(lost.protocol.cycle.body) == 0
    for other in others:
        await other.respond()
