"""The service with a watch over its event loop: `python -m tests.chaos.hostile.watched LOG all`.

A thread posts a call to the loop again and again. It writes a JSON line for each: how long the call
waited, and how much CPU time the loop's thread used meanwhile. The second figure does not depend on
what else the machine does.
"""

import json
import sys
import threading
import time
from asyncio import AbstractEventLoop, get_running_loop
from pathlib import Path
from socket import socket

import uvicorn

from app.cli import main

_PERIOD_SECONDS = 0.02
_REPORTED_SECONDS = 0.005
_LONGEST_SECONDS = 60.0


def watch(loop: AbstractEventLoop, thread_id: int, log: Path) -> None:
    clock = time.pthread_getcpuclockid(thread_id)
    with log.open("w", buffering=1) as output:
        while not loop.is_closed():
            called = threading.Event()
            posted_at, began, used = time.time(), time.monotonic(), time.clock_gettime(clock)
            loop.call_soon_threadsafe(called.set)
            called.wait(_LONGEST_SECONDS)
            seconds = time.monotonic() - began
            if seconds >= _REPORTED_SECONDS:
                cpu_seconds = time.clock_gettime(clock) - used
                line = {"posted_at": posted_at, "seconds": seconds, "cpu_seconds": cpu_seconds}
                output.write(json.dumps(line) + "\n")
            time.sleep(_PERIOD_SECONDS)


def start_watch_with_server(log: Path) -> None:
    start_server = uvicorn.Server.startup

    async def startup(server: uvicorn.Server, sockets: list[socket] | None = None) -> None:
        await start_server(server, sockets)
        loop_and_thread = (get_running_loop(), threading.get_ident())
        threading.Thread(target=watch, args=(*loop_and_thread, log), daemon=True).start()

    uvicorn.Server.startup = startup  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    start_watch_with_server(Path(sys.argv.pop(1)))
    main()
