"""In which order expensive steps of requests begin."""

import asyncio
import itertools
from functools import partial
from typing import Any

import pytest

from app.http_server.connections import Connections
from app.loop_turns import LoopTurns, set_loop_turns, wait_for_loop_turn
from tests.support.http_protocol import GET, Application, connect
from tests.support.waiting import run_other_tasks


def _append(started: list[Any], name: Any) -> bool:
    started.append(name)
    return True


async def test_one_request_starts_in_each_turn_of_the_event_loop() -> None:
    turns = LoopTurns()
    started: list[int] = []
    for n in range(3):
        turns.start("a", partial(_append, started, n))
    seen = []
    for _ in range(4):
        seen.append(len(started))
        await run_other_tasks()
    assert seen == [1, 2, 3, 3]
    assert started == [0, 1, 2]
    turns.start("a", partial(_append, started, 3))
    assert started[-1] == 3


async def test_clients_take_turns() -> None:
    turns = LoopTurns()
    started: list[str] = []
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        turns.start(name[0], partial(_append, started, name))
    await run_other_tasks(8)
    assert started == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_steps_that_have_ended_take_no_turn() -> None:
    turns = LoopTurns()
    started: list[str] = []
    turns.start("a", partial(_append, started, "a1"))
    for _ in range(1_000):
        turns.start("a", lambda: False)
    turns.start("a", partial(_append, started, "a2"))
    await run_other_tasks(2)
    assert started == ["a1", "a2"]


async def test_another_client_does_not_wait_for_a_thousand_requests_of_one() -> None:
    connections, app = Connections(5_000), Application()
    flood = [connect(app, peer="192.0.2.1", connections=connections) for _ in range(1_000)]
    for one in flood:
        one.send(GET)
    other = connect(app, peer="192.0.2.2", connections=connections)
    other.send(GET.replace(b"/ ", b"/other "))
    await run_other_tasks(10)
    assert app.paths.index("/other") <= 2
    for one in flood:
        one.protocol.connection_lost(None)
    await run_other_tasks(1_001)
    assert len(app.paths) < 20  # a request whose client is gone does not start


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/ping"])
async def test_a_health_check_does_not_wait_for_a_thousand_requests_of_its_address(
    path: str,
) -> None:
    connections, app = Connections(5_000), Application()
    served = [connect(app, connections=connections) for _ in range(1_001)]
    for one in served[1:]:
        one.send(GET)
    served[0].send(GET.replace(b"/ ", path.encode() + b" "))
    await run_other_tasks(10)
    assert app.paths.index(path) <= 2
    for one in served:
        one.protocol.connection_lost(None)
    await run_other_tasks(1_001)


async def test_a_health_check_does_not_wait_for_requests_of_a_thousand_addresses() -> None:
    connections, app = Connections(5_000), Application()
    peers = [f"192.0.{n // 250}.{n % 250}" for n in range(1_000)]
    served = [connect(app, peer=peer, connections=connections) for peer in peers]
    for one in served[1:]:
        one.send(GET)
    served[0].send(GET.replace(b"/ ", b"/health/live "))
    await run_other_tasks(10)
    assert app.paths.index("/health/live") <= 2
    for one in served:
        one.protocol.connection_lost(None)
    await run_other_tasks(1_001)


async def test_health_checks_leave_every_second_turn_to_others() -> None:
    turns = LoopTurns()
    started: list[str] = []
    for name in ("h1", "h2", "h3", "h4", "a1", "b1"):
        step = partial(_append, started, name)
        turns.start(name[0], step, is_health_check=name.startswith("h"))
    await run_other_tasks(8)
    assert started == ["h1", "h2", "a1", "h3", "b1", "h4"]


async def test_a_thousand_health_checks_start_one_in_each_turn() -> None:
    connections, app = Connections(5_000), Application()
    served = [connect(app, connections=connections) for _ in range(1_000)]
    for one in served:
        one.send(GET.replace(b"/ ", b"/health/live "))
    await run_other_tasks(5)
    assert len(app.paths) <= 5
    for one in served:
        one.protocol.connection_lost(None)
    await run_other_tasks(1_001)


async def test_one_waiting_step_begins_in_each_turn_of_the_event_loop() -> None:
    turns = LoopTurns()
    begun: list[str] = []

    async def step(name: str) -> None:
        with set_loop_turns(turns, name[0]):
            await wait_for_loop_turn()
        begun.append(name)

    tasks = [asyncio.create_task(step(name)) for name in ("a1", "a2", "a3", "b1")]
    seen = []
    for _ in range(8):
        await run_other_tasks()
        seen.append(len(begun))
    assert begun == ["a1", "a2", "b1", "a3"]
    assert all(after - before <= 1 for before, after in itertools.pairwise(seen))
    await asyncio.gather(*tasks)


async def test_a_cancelled_step_takes_no_turn() -> None:
    turns = LoopTurns()
    tasks = [asyncio.create_task(turns.wait("a")) for _ in range(3)]
    await run_other_tasks()
    tasks[1].cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in ended] == [type(None), asyncio.CancelledError, type(None)]


async def test_a_step_outside_a_request_does_not_wait_for_others() -> None:
    await asyncio.gather(*(wait_for_loop_turn() for _ in range(3)))
