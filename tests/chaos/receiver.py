"""The receiver of a chaos run, a separate process: `python -m tests.chaos.receiver LOG`.

It logs each request, and each response that is not of a hostile path, before it sends it. The log
is append-only and has JSON lines. The receiver prints its port.
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

from tests.chaos.evidence import Behaviour

_RESPONSE_SECONDS = 0.02
_SLOW_RESPONSE_SECONDS = 1.0
_LONGER_THAN_PERIOD_SECONDS = 2.5
"""Every second execution of a slow job takes so long. The jobs are due every 2 s, so these overlap,
but the others let a job with a buffer catch up."""
_ONE_IN = 20
"""One in 20 executions gets a 503 at the first attempt, and one in 20 others is slow. So at most
instants some execution is between two attempts and some execution is running."""

HOSTILE = ("hang", "reset", "drip", "flood", "redirect", "bomb", "busy")
"""Paths at which the receiver misbehaves."""
_LONG_SECONDS = 60
_LARGE_BODY = "x" * 65_536


def choose_status(behaviour: str, execution_id: str, attempt: int) -> int:
    """Return a status that depends only on the id and the attempt, not on the order of requests."""
    match behaviour:
        case Behaviour.FLAKY:
            return 503 if _hash(f"{execution_id} {attempt}") % 3 == 0 else 200
        case Behaviour.FAILING:
            return 500
        case Behaviour.REJECTING:
            return 400
        case Behaviour.PLAIN if attempt == 1 and _hash(execution_id) % _ONE_IN == 0:
            return 503
    return 200


def choose_seconds(behaviour: str, execution_id: str) -> float:
    match behaviour:
        case Behaviour.SLOW if _hash(execution_id) % 2:
            return _LONGER_THAN_PERIOD_SECONDS
        case Behaviour.PLAIN if _hash(execution_id) % _ONE_IN == 1:
            return _SLOW_RESPONSE_SECONDS
    return _RESPONSE_SECONDS


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


async def misbehave(request: web.BaseRequest) -> web.StreamResponse:
    """Respond as a bad receiver does. None of these responses is a success; none is logged."""
    response = web.StreamResponse(status=500)
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
            await response.prepare(request)
            for _ in range(10 * _LONG_SECONDS):
                await response.write(b".")
                await asyncio.sleep(0.1)
        case "/flood":
            await response.prepare(request)
            for _ in range(1_000):
                await response.write(bytes(65_536))
    return response


async def serve(log: int) -> None:
    numbers = itertools.count()

    def write(**line: object) -> None:
        os.write(log, json.dumps(line).encode() + b"\n")

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        number, headers = next(numbers), request.headers
        behaviour = request.path.strip("/")
        execution_id, attempt = headers["Idempotency-Key"], int(headers["X-Attempt"])
        write(
            request=number,
            execution_id=execution_id,
            attempt=attempt,
            scheduled_for=headers["X-Scheduled-For"],
            received_at=time.time(),
            behaviour=behaviour,
        )
        await request.read()
        if behaviour in HOSTILE:
            with contextlib.suppress(ConnectionResetError):  # the sender closed the connection
                return await misbehave(request)
            return web.Response(status=500)
        await asyncio.sleep(choose_seconds(behaviour, execution_id))
        status = choose_status(behaviour, execution_id, attempt)
        write(request=number, status=status, responded_at=time.time())
        text = _LARGE_BODY if behaviour == Behaviour.LARGE else "ok"
        return web.Response(status=status, text=text)

    runner = web.ServerRunner(web.Server(respond, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    descriptor = os.open(Path(sys.argv[1]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    asyncio.run(serve(descriptor))
