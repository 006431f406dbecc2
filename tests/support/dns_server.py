"""A DNS server on 127.0.0.1. A test sets which names it answers, when, and with how much."""

import asyncio
import errno
import ipaddress
import struct
from collections import Counter
from types import TracebackType
from typing import Self, cast

A, AAAA = 1, 28
_OPT = 41
_RESPONSE, _NOT_FOUND, _TRUNCATED = 0x8180, 0x8183, 0x0200
_HEADER = struct.Struct("!6H")
_LENGTH = struct.Struct("!H")  # before each message over TCP
_SIZE_WITHOUT_EDNS = 512
_MAX_SIZE = 65_535
_TTL_SECONDS = 300
_POINTER_TO_NAME = b"\xc0\x0c"
_FIRST_ADDRESS = {A: ipaddress.ip_address("127.0.0.1"), AAAA: ipaddress.ip_address("2001:db8::1")}
_PORT_TRIES = 10


class DnsServer(asyncio.DatagramProtocol):
    """Answers every name with 127.0.0.1 and no IPv6 address, until a test sets something else.

    An answer that is too large for UDP is truncated; TCP has all of it. `address` has the form that
    c-ares and the setting `DNS_SERVERS` accept.
    """

    def __init__(self) -> None:
        self.queries: Counter[str] = Counter()
        """How many queries arrived for each name by UDP, also those without an answer."""
        self.tcp_queries: Counter[str] = Counter()
        """How many queries arrived for each name by TCP."""
        self.truncated: Counter[str] = Counter()
        """How many answers for each name were truncated."""
        self.silent: set[str | tuple[str, int]] = set()
        """Names, or names with a record type, whose queries get no answer."""
        self.unknown: set[str] = set()
        """Names that do not exist."""
        self.counts: dict[tuple[str, int], int] = {}
        """How many addresses a name has of a record type: the first ones of 127.0.0.0/8 and of
        2001:db8::/32."""
        self.held: list[tuple[bytes, tuple[str, int]]] = []
        """The queries without an answer. `answer_held` answers them."""
        self._transport: asyncio.DatagramTransport | None = None
        self._tcp_server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for _ in range(_PORT_TRIES):
            self._tcp_server = await asyncio.start_server(self._serve_tcp, "127.0.0.1", 0)
            address = self._tcp_server.sockets[0].getsockname()
            try:
                await loop.create_datagram_endpoint(lambda: self, local_addr=address)
            except OSError as error:  # another socket has this port for UDP
                self._tcp_server.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return self
        raise OSError("no port is free for both UDP and TCP")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._transport is not None
        assert self._tcp_server is not None
        self._transport.close()
        self._tcp_server.close()
        await self._tcp_server.wait_closed()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        name, record_type, _ = _parse_question(data)
        self.queries[name] += 1
        if name in self.silent or (name, record_type) in self.silent:
            self.held.append((data, address))
        else:
            self._answer(data, address)

    def answer_held(self) -> None:
        """Answer the queries that have no answer yet."""
        held, self.held = self.held, []
        for data, address in held:
            self._answer(data, address)

    def _answer(self, data: bytes, address: tuple[str, int]) -> None:
        assert self._transport is not None
        self._transport.sendto(self._build_answer(data, _read_udp_size(data)), address)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while prefix := await reader.read(_LENGTH.size):
                (length,) = _LENGTH.unpack(prefix)
                data = await reader.readexactly(length)
                name, _, _ = _parse_question(data)
                self.tcp_queries[name] += 1
                answer = self._build_answer(data, _MAX_SIZE)
                writer.write(_LENGTH.pack(len(answer)) + answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _build_answer(self, data: bytes, size: int) -> bytes:
        """Answer with as many addresses as fit into `size` bytes."""
        name, record_type, end = _parse_question(data)
        (query_id, *_) = _HEADER.unpack_from(data)
        records = [] if name in self.unknown else self._list_records(name, record_type)
        flags = _NOT_FOUND if name in self.unknown else _RESPONSE
        fit = (size - end) // len(records[0]) if records else 0
        if fit < len(records):
            flags |= _TRUNCATED
            self.truncated[name] += 1
        sent = records[:fit]
        header = _HEADER.pack(query_id, flags, 1, len(sent), 0, 0)
        return header + data[_HEADER.size : end] + b"".join(sent)

    def _list_records(self, name: str, record_type: int) -> list[bytes]:
        count = self.counts.get((name, record_type), int(record_type == A))
        if not count:
            return []
        first = _FIRST_ADDRESS[record_type]
        length = len(first.packed)
        fields = struct.pack("!HHIH", record_type, 1, _TTL_SECONDS, length)
        return [_POINTER_TO_NAME + fields + (first + n).packed for n in range(count)]


def _parse_question(data: bytes) -> tuple[str, int, int]:
    """Return the name, the record type and the end of the question."""
    labels, at = [], _HEADER.size
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    (record_type,) = struct.unpack_from("!H", data, at + 1)
    return ".".join(labels), record_type, at + 5


def _read_udp_size(data: bytes) -> int:
    """The largest answer that the client accepts by UDP. An OPT record (EDNS) names it."""
    _, _, end = _parse_question(data)
    if len(data) < end + 5:
        return _SIZE_WITHOUT_EDNS
    record_type, size = struct.unpack_from("!HH", data, end + 1)
    return max(size, _SIZE_WITHOUT_EDNS) if record_type == _OPT else _SIZE_WITHOUT_EDNS
