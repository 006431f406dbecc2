"""The http target of the service, allowed to connect to this machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp.abc import AbstractResolver

from app.clock import Clock
from app.models.execution import AttemptOutcome
from app.models.outcome import Failure, Outcome
from app.models.target import HttpTargetSpec
from app.targets.http import HttpTarget
from app.targets.session import open_session
from app.targets.target import Delivery
from tests.support.clock import ManualClock


@asynccontextmanager
async def open_target(
    *,
    private: bool = True,
    limit: int = 0,
    resolver: AbstractResolver | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[HttpTarget]:
    """Open an http target with its own session. Without `clock`, its clock stays at `START`."""
    async with open_session(allow_private_hosts=private, limit=limit, resolver=resolver) as session:
        yield HttpTarget(session=session, clock=clock or ManualClock(), version="1.2.3")


async def deliver_to(
    url: str, delivery: Delivery, resolver: AbstractResolver, *, private: bool = True
) -> Outcome:
    """Deliver once through a new target."""
    async with open_target(private=private, resolver=resolver) as target:
        return await target.deliver(HttpTargetSpec(url=url), delivery)


def assert_fails(outcome: Outcome, failure: Failure, error: str) -> None:
    """Assert that the outcome is this failure and has no response."""
    assert outcome == Outcome(AttemptOutcome.FAILED, failure=failure, error=error)
