"""Turns: expensive steps of requests, one in each turn of the event loop, the clients in turn.

The start of a request and the parsing of a large body need no wait, so that they run from start to
end in one turn of the event loop. Hundreds of them at once would stop the engine for seconds.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


class LoopTurns:
    """The steps that wait for their turn, by client."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Callable[[], None]]] = {}
        self._is_planned = False

    def start(self, client: str, begin: Callable[[], None]) -> None:
        """Call `begin` now if none was called in this turn of the event loop, else in a later
        turn."""
        if self._is_planned:
            self._waiting.setdefault(client, deque()).append(begin)
        else:
            self._plan()
            begin()

    async def wait(self, client: str) -> None:
        """Return in a later turn of the event loop, in which no other step begins."""
        turn = asyncio.get_running_loop().create_future()

        def begin() -> None:
            if not turn.done():  # else the request was cancelled
                turn.set_result(None)

        self.start(client, begin)
        await turn

    def _plan(self) -> None:
        self._is_planned = True
        asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_planned = False
        if not self._waiting:
            return
        self._plan()
        client = next(iter(self._waiting))
        steps = self._waiting.pop(client)
        begin = steps.popleft()
        if steps:  # behind the other clients
            self._waiting[client] = steps
        begin()


@dataclass(frozen=True, slots=True)
class _Place:
    turns: LoopTurns
    client: str


_present: ContextVar[_Place | None] = ContextVar("loop_turns", default=None)


@contextmanager
def set_loop_turns(turns: LoopTurns, client: str) -> Iterator[None]:
    """Set whose turns the steps in the `with` statement wait for."""
    token = _present.set(_Place(turns, client))
    try:
        yield
    finally:
        _present.reset(token)


async def wait_for_loop_turn() -> None:
    """Call this before an expensive step of a request. Outside a request it only lets others run
    first."""
    place = _present.get()
    if place is None:
        await asyncio.sleep(0)
    else:
        await place.turns.wait(place.client)
