"""Blocked targets, and the leases and settlements of claimed executions."""

import asyncio
from dataclasses import dataclass, field

from app.models.execution import Execution, ExecutionStatus
from app.models.outcome import Outcome
from app.repositories.lease_fence import Lease
from app.repositories.settlements import Settlement
from app.targets.target import Delivery
from tests.support.engine import SUCCEEDED, World


@dataclass
class BlockedTarget:
    """A target whose deliveries end with `outcome` after `may_end` is set."""

    outcome: Outcome = SUCCEEDED
    began: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: list[int] = field(default_factory=list)
    """The numbers of the attempts that were cancelled."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        self.began.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.stopped.append(delivery.attempt)
            raise
        return self.outcome


def block_targets(world: World, outcome: Outcome = SUCCEEDED) -> BlockedTarget:
    """Let all deliveries wait until the returned target's `may_end` is set."""
    target = BlockedTarget(outcome)
    world.targets.outcome_of = target.deliver
    return target


def make_lease(execution: Execution) -> Lease:
    return Lease(execution.id, execution.lease_token)


def make_success(execution: Execution) -> Settlement:
    """Make the settlement of a success that adds no attempt."""
    return Settlement(make_lease(execution), ExecutionStatus.SUCCEEDED)
