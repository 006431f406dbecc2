"""Limits how many bytes the connections of an attempt receive, with those that TLS keeps to itself.

TLS handles messages that it does not pass on, such as HelloRequest and session tickets. OpenSSL
does not limit their number, and the protocol of a connection does not see them, so a receiver that
sends them would use the processor until the timeout. The kernel counts all bytes.
"""

import asyncio
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from app.clock import Clock

MAX_RECEIVED_BYTES = 524_288
"""The largest response that is read (64 KB each of head, framing and content), what is received
while reading is paused (256 KB over TLS, and the kernel's buffer), and some more."""
CHECK_INTERVAL = timedelta(milliseconds=100)

TOO_MANY_BYTES = f"the receiver sent more than {MAX_RECEIVED_BYTES // 1_024} KB"

_BYTES_RECEIVED = struct.Struct("=128xQ")
"""`tcpi_bytes_received` in Linux's `struct tcp_info`."""


@dataclass(eq=False)
class Received:
    """What the connections of one attempt receive."""

    exceeded: bool = False
    """More than the limit was received. The connections were ended."""
    sockets: list[socket.socket] = field(default_factory=list)


_add_socket: ContextVar[Callable[[socket.socket], None]] = ContextVar("add_socket")


def limit_received(opened: socket.socket) -> None:
    """Limit what this socket receives, if it was opened in the body of `ReceiveLimit.apply`."""
    add = _add_socket.get(None)
    if add is not None:
        add(opened)


class ReceiveLimit:
    """Ends connections that receive more than `MAX_RECEIVED_BYTES`. On Linux only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[socket.socket, Received] = {}
        self._checking: asyncio.Task[None] | None = None

    @contextmanager
    def apply(self) -> Iterator[Received]:
        """Limit the connections that are made in the body, until they are closed.

        They serve only the body: nothing more is read from them after it. Otherwise TLS would wait
        for 30 s until the receiver closes the connection, too.
        """
        received = Received()
        token = _add_socket.set(partial(self._add, received))
        try:
            yield received
        finally:
            _add_socket.reset(token)
            for opened in received.sockets:
                _shut_down(opened, socket.SHUT_RD)  # what is not sent yet will be sent

    def _add(self, received: Received, opened: socket.socket) -> None:
        received.sockets.append(opened)
        self._open[opened] = received
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check_repeatedly(), name="receive-limit")

    async def _check_repeatedly(self) -> None:
        while self._open:
            with suppress(TimeoutError):
                async with self._clock.timeout(CHECK_INTERVAL):
                    await asyncio.Event().wait()
            self._check()

    def _check(self) -> None:
        for opened, received in list(self._open.items()):
            if opened.fileno() == -1:
                del self._open[opened]
            elif _count_received(opened) > MAX_RECEIVED_BYTES:
                received.exceeded = True
                _shut_down(opened, socket.SHUT_RDWR)


def _count_received(opened: socket.socket) -> int:
    if sys.platform != "linux":
        return 0
    info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
    # Kernels before 4.1 do not count.
    count: int = _BYTES_RECEIVED.unpack(info)[0] if len(info) == _BYTES_RECEIVED.size else 0
    return count


def _shut_down(opened: socket.socket, how: int) -> None:
    with suppress(OSError):  # it is not connected, or closed
        opened.shutdown(how)
