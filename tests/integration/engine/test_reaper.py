"""When the reaper looks for expired leases again, and how it counts abandoned attempts."""

from datetime import timedelta

import pytest

from app.engine.loop import AT_ONCE
from app.models.execution import ExecutionStatus
from app.models.policy import RetryPolicy
from app.repositories.leases import AttemptStart
from tests.integration.engine.attempts import make_lease
from tests.support.engine import LEASE, World, claim_due


@pytest.mark.parametrize("max_attempts", [1, 2, 3])
async def test_each_abandoned_attempt_counts_once_for_max_attempts(
    world: World, max_attempts: int
) -> None:
    process = world.compose_process()
    job = await world.add_job(retry=RetryPolicy(max_attempts=max_attempts))
    queued = await world.queue(job)
    for number in range(1, max_attempts + 1):
        (claimed,) = await claim_due(process.leases, limit=1)
        start = AttemptStart(make_lease(claimed), number, job.revision)
        assert await process.leases.start([start]) == [True]
        world.clock.advance(LEASE)
        await process.reaper.tick()
    assert await claim_due(process.leases, limit=1) == []
    assert (await world.read(queued)).status is ExecutionStatus.FAILED


async def test_the_reaper_continues_at_once_after_a_full_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.engine.reaper._BATCH", 2)
    dead, alive = world.compose_process(), world.compose_process()
    job = await world.add_job()
    for _ in range(3):
        await world.queue(job)
    await claim_due(dead.leases, limit=3)
    world.clock.advance(LEASE)
    assert await alive.reaper.tick() == AT_ONCE
    assert await alive.reaper.tick() > AT_ONCE
    assert {e.status for e in await world.list_executions(job)} == {ExecutionStatus.QUEUED}


@pytest.mark.parametrize(("lease", "rest"), [(5, 1.25), (60, 4), (3_600, 4)])
async def test_the_reaper_rests_less_than_five_seconds(
    world: World, lease: int, rest: float
) -> None:
    """An execution is taken over at most 5 s after its lease ran out."""
    process = world.compose_process(lease_seconds=lease)
    assert await process.reaper.tick() == timedelta(seconds=rest)
