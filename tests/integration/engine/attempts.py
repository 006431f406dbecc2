"""Blocked targets, leases and settlements of claimed executions, and events between two calls."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.errors import UnavailableError
from app.models.execution import Execution, ExecutionStatus
from app.models.outcome import Outcome
from app.repositories.lease_fence import Lease
from app.repositories.leases import LeaseRepository
from app.repositories.settlements import Settlement
from app.targets.target import Delivery
from tests.support.engine import LEASE, SUCCEEDED, World


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


async def renew_late(world: World, claimed: Execution) -> None:
    """Renew a lease that has run out, as a primary whose clock is slower does."""
    until = world.clock.now() + LEASE
    executions = world.database.collection("executions")
    await executions.update_one({"_id": claimed.id}, {"$set": {"lease_until": until}})


def make_success(execution: Execution) -> Settlement:
    """Make the settlement of a success that adds no attempt."""
    return Settlement(make_lease(execution), ExecutionStatus.SUCCEEDED)


@contextmanager
def lose_responses(monkeypatch: pytest.MonkeyPatch, method: str) -> Iterator[None]:
    """Make a method of LeaseRepository raise UnavailableError after its write.

    The body must raise it.
    """
    call = getattr(LeaseRepository, method)

    async def lose_response(self: LeaseRepository, *args: Any, **named: Any) -> None:
        await call(self, *args, **named)
        raise UnavailableError("the response is lost")

    with monkeypatch.context() as patched:
        patched.setattr(LeaseRepository, method, lose_response)
        with pytest.raises(UnavailableError):
            yield


def act_around(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    *,
    before: Callable[[], Awaitable[object]] | None = None,
    after: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Let another process act before or after the next call of a method of LeaseRepository."""
    call = getattr(LeaseRepository, method)

    async def act(self: LeaseRepository, *args: Any, **named: Any) -> Any:
        monkeypatch.setattr(LeaseRepository, method, call)
        if before is not None:
            await before()
        result = await call(self, *args, **named)
        if after is not None:
            await after()
        return result

    monkeypatch.setattr(LeaseRepository, method, act)


def fail_settlements(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the first `times` calls that settle fail, as in an outage."""
    settle, calls = LeaseRepository.settle, 0

    async def fail_at_first(self: LeaseRepository, settlements: Any) -> list[bool]:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise UnavailableError("no primary")
        return await settle(self, settlements)

    monkeypatch.setattr(LeaseRepository, "settle", fail_at_first)
