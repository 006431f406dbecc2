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

Step = Callable[[], bool]
"""Begins a step. Returns whether it did: False if the request has been cancelled or its client is
gone. Such a step takes no turn."""


class _Line:
    """The steps that wait, by client: the clients in turn."""

    def __init__(self) -> None:
        self._steps: dict[str, deque[Step]] = {}

    def __bool__(self) -> bool:
        return bool(self._steps)

    def add(self, client: str, begin: Step) -> None:
        self._steps.setdefault(client, deque()).append(begin)

    def take(self) -> Step:
        client = next(iter(self._steps))
        steps = self._steps.pop(client)
        begin = steps.popleft()
        if steps:  # behind the other clients
            self._steps[client] = steps
        return begin


class LoopTurns:
    """The steps that wait for their turn, by client.

    Health checks stand in a line of their own, which has every second turn: who restarts a process
    that does not respond must not wait behind hundreds of clients.
    """

    def __init__(self) -> None:
        self._line = _Line()
        self._health_line = _Line()
        self._health_is_next = True
        self._is_planned = False

    def start(self, client: str, begin: Step, *, is_health_check: bool = False) -> None:
        """Call `begin` now if none was called in this turn of the event loop, else in a later
        turn."""
        if self._is_planned:
            line = self._health_line if is_health_check else self._line
            line.add(client, begin)
        else:
            self._plan()
            begin()

    async def wait(self, client: str) -> None:
        """Return in a later turn of the event loop, in which no other step begins."""
        turn = asyncio.get_running_loop().create_future()

        def begin() -> bool:
            if turn.done():  # the request was cancelled
                return False
            turn.set_result(None)
            return True

        self.start(client, begin)
        await turn

    def _plan(self) -> None:
        self._is_planned = True
        asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_planned = False
        while self._line or self._health_line:
            takes_health_check = bool(self._health_line) and (
                self._health_is_next or not self._line
            )
            if (self._health_line if takes_health_check else self._line).take()():
                self._health_is_next = not takes_health_check
                self._plan()
                return


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
