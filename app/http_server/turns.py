"""Starts requests one at a time, the clients in turn.

A request often needs no wait, so that its task runs from start to end in one turn of the event
loop. A thousand requests that arrive at once would then stop the engine for seconds.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """The requests that wait for their start, by client."""

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

    def _plan(self) -> None:
        self._is_planned = True
        asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_planned = False
        if not self._waiting:
            return
        self._plan()
        client = next(iter(self._waiting))
        requests = self._waiting.pop(client)
        begin = requests.popleft()
        if requests:  # behind the other clients
            self._waiting[client] = requests
        begin()
