"""A DNS server on 127.0.0.1 (UDP). A test sets which names it answers, and when."""

import asyncio
import socket
import struct
from collections import Counter
from types import TracebackType
from typing import Self, cast

A, AAAA = 1, 28
_RESPONSE, _NOT_FOUND = 0x8180, 0x8183
_HEADER = struct.Struct("!6H")
_TTL_SECONDS = 300
_POINTER_TO_NAME = b"\xc0\x0c"


class DnsServer(asyncio.DatagramProtocol):
    """Answers every name with 127.0.0.1 and no IPv6 address, until a test sets something else.

    `address` has the form that c-ares and the setting `DNS_SERVERS` accept.
    """

    def __init__(self) -> None:
        self.queries: Counter[str] = Counter()
        """How many queries arrived for each name, also those without an answer."""
        self.silent: set[str | tuple[str, int]] = set()
        """Names, or names with a record type, whose queries get no answer."""
        self.unknown: set[str] = set()
        """Names that do not exist."""
        self.held: list[tuple[bytes, tuple[str, int]]] = []
        """The queries without an answer. `answer_held` answers them."""
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._transport is not None
        self._transport.close()

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
        name, record_type, end = _parse_question(data)
        (query_id, *_) = _HEADER.unpack_from(data)
        found = record_type == A and name not in self.unknown
        flags = _NOT_FOUND if name in self.unknown else _RESPONSE
        record = b""
        if found:
            fields = struct.pack("!HHIH", A, 1, _TTL_SECONDS, 4)
            record = _POINTER_TO_NAME + fields + socket.inet_aton("127.0.0.1")
        header = _HEADER.pack(query_id, flags, 1, int(found), 0, 0)
        question = data[_HEADER.size : end]
        self._transport.sendto(header + question + record, address)


def _parse_question(data: bytes) -> tuple[str, int, int]:
    """Return the name, the record type and the end of the question."""
    labels, at = [], _HEADER.size
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    (record_type,) = struct.unpack_from("!H", data, at + 1)
    return ".".join(labels), record_type, at + 5
