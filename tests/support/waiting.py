"""Bounded waits. Outside of `tests/chaos`, only this module may call a function `sleep`.

`tests/architecture/test_no_sleeps.py` checks that.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

_POLL_SECONDS = 0.005


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]],
    seconds: float = 5,
    *,
    every: float = _POLL_SECONDS,
) -> None:
    """Wait until `condition()` holds; fail after `seconds`.

    `every` is the pause between two checks, for conditions that are expensive to check.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            while not await _holds(condition):
                await asyncio.sleep(every)
    except TimeoutError:
        if not limit.expired():  # the condition raised it
            raise
        raise AssertionError(_message(condition, seconds)) from None


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    result = condition()
    return await result if inspect.isawaitable(result) else result


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until `condition()` holds, without an event loop; fail after `seconds`."""
    ends_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= ends_at:
            raise AssertionError(_message(condition, seconds))
        time.sleep(_POLL_SECONDS)


async def run_other_tasks(turns: int = 1) -> None:
    """Let the event loop run every task that is ready, `turns` times."""
    for _ in range(turns):
        await asyncio.sleep(0)


def _message(condition: Callable[[], object], seconds: float) -> str:
    code = getattr(condition, "__code__", None)
    where = f"{code.co_filename}:{code.co_firstlineno}" if code else repr(condition)
    return f"the condition at {where} did not hold within {seconds:g} s"
