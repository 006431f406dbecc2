"""The http target of the service, allowed to connect to this machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp.abc import AbstractResolver

from app.clock import Clock
from app.models.execution import AttemptOutcome
from app.models.outcome import Failure, Outcome
from app.models.target import HttpTargetSpec
from app.targets.http import HttpTarget
from app.targets.resolver import AresResolver, LimitedResolver
from app.targets.session import open_session
from app.targets.target import Delivery
from tests.support.clock import ManualClock

NO_DNS_SERVER = "127.0.0.1:1"
"""An address on which no server listens."""


@asynccontextmanager
async def open_target(
    *,
    private: bool = True,
    limit: int = 0,
    resolver: AbstractResolver | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[HttpTarget]:
    """Open an http target with its own session. Without `clock`, its clock stays at `START`.

    Without `resolver`, names are looked up as in production, but on this machine, where no DNS
    server listens.
    """
    clock = clock or ManualClock()
    limited = LimitedResolver(resolver or AresResolver(NO_DNS_SERVER), clock=clock)
    async with (
        closing(limited),
        open_session(allow_private_hosts=private, limit=limit, resolver=limited) as session,
    ):
        yield HttpTarget(session=session, clock=clock, version="1.2.3")


@asynccontextmanager
async def closing(resolver: AbstractResolver) -> AsyncIterator[None]:
    """Close the resolver at the end."""
    try:
        yield
    finally:
        await resolver.close()


async def deliver_to(
    url: str, delivery: Delivery, resolver: AbstractResolver, *, private: bool = True
) -> Outcome:
    """Deliver once through a new target."""
    async with open_target(private=private, resolver=resolver) as target:
        return await target.deliver(HttpTargetSpec(url=url), delivery)


def assert_fails(outcome: Outcome, failure: Failure, error: str) -> None:
    """Assert that the outcome is this failure and has no response."""
    assert outcome == Outcome(AttemptOutcome.FAILED, failure=failure, error=error)
