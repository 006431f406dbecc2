"""The timeline of the overlap policies in docs/schedules.md is what the engine does."""

from datetime import datetime, timedelta

import pytest

from app.models.execution import Execution, ExecutionStatus
from app.models.job import Job
from app.models.policy import OverlapPolicy
from app.repositories.settlements import Settlement
from tests.integration.engine.attempts import make_lease, make_success
from tests.support.documents import DOCS, read_code, read_table
from tests.support.engine import Process, World, claim_due

STEP = timedelta(seconds=5)
PERIOD, DURATION = 10, 25
SLOTS = 5


class Timeline:
    """A job that is due every 10 seconds. Each execution takes 25 seconds."""

    def __init__(self, world: World, process: Process, job: Job) -> None:
        self._world, self._process, self._job = world, process, job
        self._first_slot = world.clock.now() + timedelta(seconds=PERIOD)
        self._starts: dict[str, int] = {}
        self._ends: dict[str, int] = {}

    async def play(self) -> None:
        now = -PERIOD
        while now < SLOTS * (PERIOD + DURATION):
            self._world.clock.advance(STEP)
            now += STEP // timedelta(seconds=1)
            await self._finish(now)
            await self._process.schedule()
            await self._finish(now)
            for execution in await claim_due(self._process.leases, limit=10):
                self._starts[execution.id] = now

    async def _finish(self, now: int) -> None:
        """End what has run for its duration, and what shall be cancelled."""
        for execution in await self._world.list_executions(self._job):
            if execution.id not in self._starts or execution.id in self._ends:
                continue
            if execution.status is ExecutionStatus.RUNNING:
                if execution.cancel_requested_at is not None:
                    end = Settlement(make_lease(execution), ExecutionStatus.CANCELLED)
                elif now - self._starts[execution.id] >= DURATION:
                    end = make_success(execution)
                else:
                    continue
                assert await self._process.leases.settle([end]) == [True]
                await self._world.promotions.promote([self._job.id])
            self._ends[execution.id] = now

    async def describe(self) -> dict[str, str]:
        executions = await self._world.list_executions(self._job)
        return {
            self._name(execution.scheduled_for): self._describe(execution)
            for execution in executions
            if self._name(execution.scheduled_for) < str(SLOTS * PERIOD)
        }

    def _name(self, slot: datetime) -> str:
        return f"{(slot - self._first_slot).seconds:02}"

    def _describe(self, execution: Execution) -> str:
        if execution.id not in self._starts:
            return f"{execution.status}: `{execution.reason}`"
        span = f"{self._starts[execution.id]:02} to {self._ends[execution.id]:02}"
        return span if execution.reason is None else f"{span}: `{execution.reason}`"


async def compute_timeline(world: World, policy: OverlapPolicy) -> dict[str, str]:
    process = world.compose_process(lease_seconds=600)
    last = world.clock.now() + SLOTS * timedelta(seconds=PERIOD)
    job = await world.add_job(world.every(PERIOD, end_at=last), overlap_policy=policy)
    timeline = Timeline(world, process, job)
    await timeline.play()
    return await timeline.describe()


@pytest.mark.parametrize("policy", list(OverlapPolicy))
async def test_the_documented_timeline_is_what_the_engine_does(
    world: World, policy: OverlapPolicy
) -> None:
    rows = {
        read_code(row.pop("policy")): row for row in read_table(DOCS / "schedules.md", "Overlap")
    }
    assert await compute_timeline(world, policy) == rows[policy]
