"""The timers of one connection."""

import asyncio
from collections.abc import Callable

STALL_SECONDS = 30.0
"""In this time a client must read `MIN_READ_BYTES` of a response that waits for it, or the rest."""

MIN_READ_BYTES = 1_048_576


class Timer:
    """Calls a function later. It has at most one planned call."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._call: Callable[[], None] | None = None

    def plan(self, seconds: float, call: Callable[[], None]) -> None:
        """Call `call` after this time. This replaces the call that was planned before."""
        self.cancel()
        self._handle = self._loop.call_later(seconds, call)
        self._call = call

    def has_planned(self, call: Callable[[], None]) -> bool:
        """Whether `call` is the planned call, or was the last one."""
        return self._call == call

    def cancel(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = self._call = None


class StallTimer:
    """Closes a connection whose client reads too little of a response that waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._timer = Timer(loop)
        self._transport = transport
        self.is_running = False

    def start(self) -> None:
        """A response begins to wait for the client."""
        self.is_running = True
        before = self._transport.get_write_buffer_size()

        def check() -> None:
            if before - self._transport.get_write_buffer_size() < MIN_READ_BYTES:
                self._transport.abort()
            else:
                self.start()

        self._timer.plan(STALL_SECONDS, check)

    def stop(self) -> None:
        """The client has read what waited for it, or is gone."""
        self.is_running = False
        self._timer.cancel()
