"""Backfills of the most slots: few round trips, whatever the policy."""

from datetime import timedelta

import pytest

from app.models.policy import OverlapPolicy
from app.models.user import Actor, Role
from app.schemas.executions import BackfillIn
from app.services.backfills import MAX_SLOTS, MAX_SLOTS_IN_TURN
from tests.integration.engine.overlaps import (
    ASKED,
    FULL,
    MINUTE,
    QUEUED,
    REPLACED,
    RUNNING,
    SKIPPED,
    TERMINATED,
    WAITING,
    Expected,
    list_records,
)
from tests.support.commands import CommandLog
from tests.support.engine import World, claim_due

ADMIN = Actor(user_id="admin", username="admin", role=Role.ADMIN)
CANCELLED = ("cancelled", "cancelled_by_overlap", False)
MOST_COMMANDS = 20
WITHOUT_OTHERS: dict[OverlapPolicy, list[Expected]] = {
    OverlapPolicy.SKIP: [QUEUED] + [SKIPPED] * 100,
    OverlapPolicy.BUFFER_ONE: [QUEUED, WAITING] + [FULL] * 99,
    OverlapPolicy.BUFFER_ALL: [QUEUED, *[WAITING] * 100],
    OverlapPolicy.CANCEL_OTHER: [CANCELLED] * 100 + [QUEUED],
    OverlapPolicy.TERMINATE_OTHER: [TERMINATED] * 100 + [QUEUED],
}
BEHIND_A_LIVE_EXECUTION: dict[OverlapPolicy, list[Expected]] = {
    OverlapPolicy.SKIP: [RUNNING] + [SKIPPED] * 101,
    OverlapPolicy.BUFFER_ONE: [RUNNING, WAITING] + [FULL] * 100,
    OverlapPolicy.BUFFER_ALL: [RUNNING] + [WAITING] * 100 + [FULL],
    OverlapPolicy.CANCEL_OTHER: [ASKED] + [REPLACED] * 100 + [WAITING],
    OverlapPolicy.TERMINATE_OTHER: [TERMINATED] * 101 + [QUEUED],
}


@pytest.fixture
def world(counted: World) -> World:
    return counted


async def backfill(
    world: World, commands: CommandLog, policy: OverlapPolicy, slots: int, *, live: bool
) -> list[Expected]:
    """Backfill this number of slots of a new job, with few commands. Return its records."""
    job = await world.add_job(world.every(1))
    if live:
        await world.queue(job, live_for=job.id)
        await claim_due(world.compose_process().leases, limit=1)
    start = world.clock.now()
    world.clock.advance(MINUTE + timedelta(seconds=slots))
    end = start + timedelta(seconds=slots + 1)
    wanted = BackfillIn(start=start, end=end, overlap_policy=policy)
    commands.clear()
    result = await world.api.backfills.backfill(ADMIN, job.id, wanted)
    assert result.count == slots
    assert commands.count() <= MOST_COMMANDS
    return await list_records(world, job.id)


@pytest.mark.parametrize("policy", WITHOUT_OTHERS)
async def test_a_backfill_takes_few_commands_under_each_policy(
    world: World, commands: CommandLog, policy: OverlapPolicy
) -> None:
    records = await backfill(world, commands, policy, MAX_SLOTS_IN_TURN, live=False)
    assert records == WITHOUT_OTHERS[policy]


@pytest.mark.parametrize("policy", BEHIND_A_LIVE_EXECUTION)
async def test_a_backfill_takes_few_commands_behind_a_live_execution(
    world: World, commands: CommandLog, policy: OverlapPolicy
) -> None:
    records = await backfill(world, commands, policy, MAX_SLOTS_IN_TURN, live=True)
    assert records == BEHIND_A_LIVE_EXECUTION[policy]


async def test_a_backfill_side_by_side_takes_few_commands(
    world: World, commands: CommandLog
) -> None:
    records = await backfill(world, commands, OverlapPolicy.ALLOW_ALL, MAX_SLOTS, live=False)
    assert records == [QUEUED] * MAX_SLOTS
