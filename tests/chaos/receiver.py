"""The receiver of a run, a process of its own: `python -m tests.chaos.receiver LOG`.

It writes what it gets, and what it is about to answer, at once to an append-only log of JSON lines,
so the log knows of every answer that a sender can have got. It prints its port.
"""

import asyncio
import contextlib
import gzip
import itertools
import json
import os
import sys
import time
import zlib
from pathlib import Path

from aiohttp import web

_ANSWER_AFTER_SECONDS = 0.02
_SLOW_ANSWER_AFTER_SECONDS = 1.0
_ONE_IN = 20
"""So many executions are refused at their first attempt, and as many others are slow: there is
always something to retry, and something under way."""

HOSTILE = ("hang", "reset", "drip", "flood", "redirect", "bomb", "busy")
"""Paths at which it behaves badly."""
_LONG_SECONDS = 60


def status_for(execution_id: str, attempt: int) -> int:
    """By the id alone, so that a run's refusals do not depend on order."""
    refused = attempt == 1 and zlib.crc32(execution_id.encode()) % _ONE_IN == 0
    return 503 if refused else 200


def seconds_for(execution_id: str) -> float:
    slow = zlib.crc32(execution_id.encode()) % _ONE_IN == 1
    return _SLOW_ANSWER_AFTER_SECONDS if slow else _ANSWER_AFTER_SECONDS


async def misbehave(request: web.BaseRequest) -> web.StreamResponse:
    """Answer as a bad receiver does. None of it is a success, so none is noted."""
    answer = web.StreamResponse(status=500)
    match request.path:
        case "/redirect":
            return web.Response(status=302, headers={"Location": "/"})
        case "/busy":
            return web.Response(status=429, headers={"Retry-After": "1"})
        case "/bomb":
            bomb = gzip.compress(bytes(10_000_000))
            return web.Response(status=500, body=bomb, headers={"Content-Encoding": "gzip"})
        case "/reset":
            assert request.transport is not None
            request.transport.abort()
        case "/hang":
            await asyncio.sleep(_LONG_SECONDS)
        case "/drip":
            await answer.prepare(request)
            for _ in range(10 * _LONG_SECONDS):
                await answer.write(b".")
                await asyncio.sleep(0.1)
        case "/flood":
            await answer.prepare(request)
            for _ in range(1_000):
                await answer.write(bytes(65_536))
    return answer


async def serve(log: int) -> None:
    numbers = itertools.count()

    def write(**line: object) -> None:
        os.write(log, json.dumps(line).encode() + b"\n")

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        number, headers = next(numbers), request.headers
        execution_id, attempt = headers["Idempotency-Key"], int(headers["X-Attempt"])
        write(
            request=number,
            execution_id=execution_id,
            attempt=attempt,
            scheduled_for=headers["X-Scheduled-For"],
            received_at=time.time(),
        )
        await request.read()
        if request.path != "/":
            with contextlib.suppress(ConnectionResetError):  # the sender has had enough
                return await misbehave(request)
            return web.Response(status=500)
        await asyncio.sleep(seconds_for(execution_id))
        status = status_for(execution_id, attempt)
        write(request=number, status=status, answered_at=time.time())
        return web.Response(status=status, text="ok")

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    descriptor = os.open(Path(sys.argv[1]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    asyncio.run(serve(descriptor))
