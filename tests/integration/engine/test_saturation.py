"""A worker whose due executions wait for slots says so, and names the owners in the log."""

import asyncio
from collections.abc import Iterable, MutableMapping
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.models.outcome import Outcome
from app.targets.target import Delivery
from tests.integration.engine.attempts import BlockedTarget, block_targets
from tests.integration.engine.test_shares import SECOND, claim_until_rest, queue_for
from tests.support.engine import Process, World
from tests.support.waiting import eventually


async def test_owners_that_wait_for_slots_are_reported_after_ten_seconds(world: World) -> None:
    process = world.compose_process(concurrency=5)
    block_targets(world)
    health = process.runtime.health
    await queue_for(world, "a", 9)
    await claim_until_rest(process)
    assert health.list_warnings() == {}

    world.clock.advance(10 * SECOND)
    with capture_logs() as logs:
        await process.worker.tick()
        await process.worker.tick()
    warning = health.list_warnings()["slots"]
    assert warning.startswith("due executions have waited for 10 s: their owner runs as many")
    assert list_saturated(logs) == [(False, ["a"])]

    await process.worker.drain(timedelta(0))
    world.targets.outcome_of = lambda _: BlockedTarget().outcome
    await process.work()
    assert health.list_warnings() == {}


async def test_a_worker_whose_slots_are_all_taken_reports_who_holds_them(world: World) -> None:
    process = world.compose_process(concurrency=5)
    block_targets(world)
    await queue_for(world, "b", 9)
    await claim_until_rest(process)
    await queue_for(world, "a")
    await claim_until_rest(process)
    world.clock.advance(10 * SECOND)
    with capture_logs() as logs:
        await process.worker.tick()
    warning = process.runtime.health.list_warnings()["slots"]
    assert warning.startswith("all 5 slots of this worker have been taken for 10 s")
    assert list_saturated(logs) == [(True, ["b", "a"])]


def list_saturated(logs: Iterable[MutableMapping[str, Any]]) -> list[tuple[bool, list[str]]]:
    """Whether all slots were taken, and the owners, of each logged warning."""
    event = "slots_saturated"
    return [(one["all_taken"], one["owner_ids"]) for one in logs if one["event"] == event]


class EndingTargets:
    """Each attempt lasts until a test ends it."""

    def __init__(self, world: World) -> None:
        self._blocked: list[BlockedTarget] = []
        world.targets.outcome_of = self._deliver

    async def _deliver(self, delivery: Delivery) -> Outcome:
        self._blocked.append(BlockedTarget())
        return await self._blocked[-1].deliver(delivery)

    async def end_first(self, process: Process) -> None:
        """End the attempt that began first, and wait for its end."""
        await eventually(lambda: bool(self._blocked))
        self._blocked.pop(0).may_end.set()
        await asyncio.wait(process.worker._tasks, return_when=asyncio.FIRST_COMPLETED)


@pytest.mark.parametrize("owners", ["a", "abcdef"])
async def test_a_worker_that_gives_each_slot_again_reports_that_executions_wait(
    world: World, owners: str
) -> None:
    process = world.compose_process(concurrency=5, lease_seconds=3_600)
    targets = EndingTargets(world)
    for owner in owners:
        await queue_for(world, owner, 20)
    for _ in range(11):
        await claim_until_rest(process)
        world.clock.advance(SECOND)
        await targets.end_first(process)

    assert "slots" in process.runtime.health.list_warnings()
    await process.worker.drain(timedelta(0))


async def test_executions_that_each_wait_a_short_time_are_not_reported(world: World) -> None:
    process = world.compose_process(concurrency=1, lease_seconds=3_600)
    targets = EndingTargets(world)
    await queue_for(world, "a")
    for _ in range(15):
        await queue_for(world, "a")
        await claim_until_rest(process)
        assert process.runtime.health.list_warnings() == {}
        world.clock.advance(SECOND)
        await targets.end_first(process)
    await process.worker.drain(timedelta(0))
