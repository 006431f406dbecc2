"""The addresses that the service may connect to, in every notation.

No test connects to another machine: test resolvers resolve the names, and public addresses are
only checked against the policy.
"""

import errno
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from app.receiver_addresses import DENIED_NETWORKS, PRIVATE_NETWORKS
from app.targets.egress import (
    RECEIVE_BUFFER_BYTES,
    UNSENT_TIMEOUT_MILLISECONDS,
    EgressDeniedError,
    EgressPolicy,
)
from app.targets.session import open_session
from tests.support.loopback import keep_on_this_machine
from tests.support.receiver import Receiver
from tests.support.resolvers import ListResolver, NumericResolver

DEFAULT = EgressPolicy()
WITH_PRIVATE_HOSTS = EgressPolicy(allow_private_hosts=True)  # HTTP_ALLOW_PRIVATE_HOSTS

PRIVATE_AND_LOOPBACK = [
    "127.0.0.1", "127.0.0.0", "127.255.255.255", "127.1.2.3", "10.0.0.0", "10.0.0.1",
    "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255", "::1",
    "0:0:0:0:0:0:0:1", "0000::0001", "fc00::", "fc00::1", "fd00::1", "fdff:ffff::1",
]  # fmt: skip

ALWAYS_DENIED = [
    "0.0.0.0", "0.0.0.1", "0.255.255.255", "100.64.0.0", "100.100.100.200", "100.127.255.255",
    "169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255", "192.0.0.0",
    "192.0.0.192", "192.0.0.255", "192.0.2.1", "192.88.99.1", "198.18.0.0", "198.19.255.255",
    "198.51.100.7", "203.0.113.7", "224.0.0.0", "224.0.0.1", "239.255.255.255", "240.0.0.0",
    "255.255.255.254", "255.255.255.255", "168.63.129.16", "::", "::2", "::7f00:1", "::127.0.0.1",
    "::10.0.0.1", "::ffff:ffff", "::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:ffff:7f00:1",
    "::FFFF:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:8.8.8.8",
    "64:ff9b::7f00:1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
    "64:ff9b:1:ffff::7f00:1", "100::1", "100::ffff:ffff:ffff:ffff", "2001::", "2001:0:7f00:1::1",
    "2001:10::1", "2001:1ff:ffff::1", "2001:db8::1", "2001:db8:ffff::1", "2002::", "2002:7f00:1::",
    "2002:a00:1::1", "2002:a9fe:a9fe::1", "3fff::1", "3fff:fff:ffff::1", "5f00::1", "5f00:ffff::1",
    "fe80::1", "fe80::1%eth0", "fe80::1%1", "febf:ffff::1", "fe80::a9fe:a9fe", "fec0::1",
    "feff:ffff::1", "ff00::1", "ff02::1", "ff02::1%lo", "ff05::2",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00:ec2::254", "fd20:ce::254",
    "fd00:c1::a9fe:a9fe", "fd00:42::42",
    # Not in 2000::/3. No list names most of these: they are reserved, or were once assigned.
    "::1:0:0", "::8.8.8.8", "::ffff:0:7f00:1", "0:0:0:0:ffff::7f00:1", "::fffe:7f00:1",
    "::1:7f00:1", "0:0:1::1", "1::1", "64:ff9a::1", "64:ff9b:0:1::7f00:1", "64:ff9b:2::7f00:1",
    "64:ff9b:ffff::1", "100:0:0:1::1", "100:1::1", "200::1", "400::1", "800::1", "1000::1",
    "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::", "4000::7f00:1", "5eff::1", "6000::1",
    "8000::1", "a000::1", "c000::1", "e000::1", "f000::1", "f800::1", "fbff:ffff::1", "fe00::1",
    "fe7f:ffff::1", "2002:a9fe:a9fe:0::1%eth0",
]  # fmt: skip

NOT_ADDRESSES = [
    "", " ", "localhost", "example.com", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1",
    "017700000001", "127.1", "127.0.1", "0", "1", "127.0.0.1.", "127.0.0.01", "127.0.0.1 ",
    "127.0.0.1%lo", "256.0.0.1", "1.2.3.4.5", "[::1]", "::1]", ":::1", "::1::", "::ffff:127.1",
    "12345::", "8.8.8.8\x00", "\uff18.8.8.8", "8.8.8.8/32", "8.8.8.8:80",
]  # fmt: skip

PUBLIC_ADDRESSES = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255",
    "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0",
    "192.88.98.255", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
    "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
    "2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700::1111", "2a00:1450::1", "3ffe::1",
    "2000::", "2001:200::", "2003::", "3fff:1000::1", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE_AND_LOOPBACK)
def test_private_and_loopback_addresses_are_denied_unless_private_hosts_are_allowed(
    address: str,
) -> None:
    assert not DEFAULT.allows(address, 443)
    assert WITH_PRIVATE_HOSTS.allows(address, 443)


@pytest.mark.parametrize("address", ALWAYS_DENIED)
def test_special_addresses_are_denied_even_if_private_hosts_are_allowed(address: str) -> None:
    assert not DEFAULT.allows(address, 443)
    assert not WITH_PRIVATE_HOSTS.allows(address, 443)


@pytest.mark.parametrize("text", NOT_ADDRESSES, ids=range(len(NOT_ADDRESSES)))
def test_text_that_is_not_an_ip_address_is_denied(text: str) -> None:
    assert not DEFAULT.allows(text, 443)
    assert not WITH_PRIVATE_HOSTS.allows(text, 443)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_addresses_are_allowed(address: str) -> None:
    assert DEFAULT.allows(address, 443)
    assert WITH_PRIVATE_HOSTS.allows(address, 443)


SPECIAL_IPV6 = [
    ip_network(name)
    for name in (
        "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23",
        "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
        "fec0::/10", "ff00::/8", "::/3", "4000::/2", "8000::/1",
    )
]  # fmt: skip


@pytest.mark.parametrize("network", [*DENIED_NETWORKS, *PRIVATE_NETWORKS, *SPECIAL_IPV6], ids=str)
def test_every_special_range_is_denied_from_its_first_to_its_last_address(network: Any) -> None:
    for end in (network[0], network[-1]):
        assert not DEFAULT.allows(str(end), 443)


@pytest.mark.parametrize("address", [*PRIVATE_AND_LOOPBACK, *PUBLIC_ADDRESSES])
def test_the_operators_networks_are_denied_even_if_private_hosts_are_allowed(address: str) -> None:
    policy = EgressPolicy(
        allow_private_hosts=True, deny_networks=(ip_network("10.20.0.0/16"), ip_network(address))
    )
    assert not policy.allows(address, 443)
    assert policy.allows("10.21.0.1", 443)
    assert not policy.allows("10.20.255.255", 443)
    assert policy.allows("2a00:1450::2", 443)


@pytest.mark.parametrize(
    ("port", "allowed"),
    [
        (0, False),
        (22, False),
        (25, False),
        (79, False),
        (80, True),
        (81, False),
        (443, True),
        (1023, False),
        (1024, True),
        (8080, True),
        (65535, True),
    ],
)
def test_only_web_and_unprivileged_ports_are_allowed(port: int, allowed: bool) -> None:
    assert DEFAULT.allows("8.8.8.8", port) is allowed
    assert WITH_PRIVATE_HOSTS.allows("127.0.0.1", port) is allowed


def test_a_denied_socket_raises_connection_rejected_and_is_logged() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("169.254.169.254", 80))
    with capture_logs() as lines, pytest.raises(EgressDeniedError) as denied:
        WITH_PRIVATE_HOSTS.open_socket(info)
    assert isinstance(denied.value, OSError)
    assert denied.value.errno == errno.ECONNREFUSED
    assert "169.254" not in str(denied.value)
    assert [(line["event"], line["address"]) for line in lines] == [
        ("egress_denied", "169.254.169.254")
    ]


def test_an_allowed_socket_has_the_family_of_its_address() -> None:
    info = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("::1", 8080, 0, 0))
    with WITH_PRIVATE_HOSTS.open_socket(info) as opened:
        assert opened.family == socket.AF_INET6


def test_a_socket_has_a_small_receive_buffer() -> None:
    """TLS gets as much at once. The kernel doubles the number."""
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.168.0.1", 8080))
    with EgressPolicy(allow_private_hosts=True).open_socket(address) as opened:
        size = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert size <= 2 * RECEIVE_BUFFER_BYTES <= 32_768


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
def test_a_socket_has_a_time_limit_for_a_receiver_that_does_not_read() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 8080))
    with WITH_PRIVATE_HOSTS.open_socket(info) as opened:
        limit = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert limit == UNSENT_TIMEOUT_MILLISECONDS


@pytest.fixture(autouse=True)
def _stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_on_this_machine(monkeypatch)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


LOOPBACK_NOTATIONS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "2130706433.",
    "017700000001",
    "0177.0.0.1",
    "0x7f000001",
    "0x7F000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "127.0.0.0x1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "%31%32%37.0.0.1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[::1%25lo]",
    "[fe80::1%25lo]",
    "0.0.0.0",
    "0",
    "[::]",
]


@pytest.mark.parametrize("host", LOOPBACK_NOTATIONS)
async def test_loopback_is_denied_in_every_notation(host: str, receiver: Receiver) -> None:
    async with open_session(
        allow_private_hosts=False, limit=0, resolver=NumericResolver()
    ) as session:
        with pytest.raises((aiohttp.ClientError, ValueError)):
            await session.get(f"http://{host}:{receiver.port}/")
    assert receiver.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "0x7f000001", "①②⑦.⓪.⓪.①"])
async def test_other_notations_reach_loopback_if_private_hosts_are_allowed(
    host: str, receiver: Receiver
) -> None:
    async with (
        open_session(allow_private_hosts=True, limit=0, resolver=NumericResolver()) as session,
        session.get(f"http://{host}:{receiver.port}/") as response,
    ):
        assert response.status == 200


@pytest.mark.parametrize("host", ["[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "[::127.0.0.1]"])
async def test_mapped_and_unspecified_addresses_are_denied_even_if_loopback_is_allowed(
    host: str, receiver: Receiver
) -> None:
    async with open_session(
        allow_private_hosts=True, limit=0, resolver=NumericResolver()
    ) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://{host}:{receiver.port}/")
    assert receiver.requests == []


async def test_a_name_of_a_documentation_address_and_then_of_loopback_is_denied_both_times(
    receiver: Receiver,
) -> None:
    # A documentation address stands for a public one, because no connection to it may be made.
    resolver = ListResolver(["203.0.113.7"], ["127.0.0.1"])
    for _ in range(2):
        async with open_session(allow_private_hosts=False, limit=0, resolver=resolver) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"http://rebinding.test:{receiver.port}/")
    assert resolver.calls == 2
    assert receiver.requests == []


async def test_a_name_with_documentation_addresses_and_loopback_does_not_reach_loopback(
    receiver: Receiver,
) -> None:
    resolver = ListResolver(["203.0.113.7", "127.0.0.1", "2001:db8::1", "::1"])
    async with open_session(allow_private_hosts=False, limit=0, resolver=resolver) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://both.test:{receiver.port}/")
    assert receiver.requests == []


async def test_an_address_in_the_operators_networks_is_not_reached(receiver: Receiver) -> None:
    async with open_session(
        allow_private_hosts=True,
        deny_networks=(ip_network("127.0.0.0/8"),),
        limit=0,
        resolver=ListResolver(["127.0.0.1", "127.0.0.2"]),
    ) as session:
        for host in ("127.0.0.1", "some.test"):
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"http://{host}:{receiver.port}/")
    assert receiver.requests == []


async def test_an_allowed_address_of_a_name_is_reached_after_a_denied_one(
    receiver: Receiver,
) -> None:
    resolver = ListResolver(["169.254.169.254", "203.0.113.7", "127.0.0.1"])
    async with (
        open_session(allow_private_hosts=True, limit=0, resolver=resolver) as session,
        session.get(f"http://some.test:{receiver.port}/") as response,
    ):
        assert response.status == 200


async def test_a_redirect_to_a_denied_address_is_denied(receiver: Receiver) -> None:
    """The http target does not follow redirects. This session does, and checks the address."""
    receiver.respond_with(302, headers={"Location": f"http://[::ffff:127.0.0.1]:{receiver.port}/"})
    async with open_session(
        allow_private_hosts=True, limit=0, resolver=NumericResolver()
    ) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{receiver.url}/start")
    assert [request.path for request in receiver.requests] == ["/start"]
