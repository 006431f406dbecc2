"""Renewal of many leases: what is extended, until when, and what is reported as lost."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from app.errors import UnavailableError
from app.models.execution import Execution
from app.repositories.heartbeat import HeartbeatRepository
from app.repositories.lease_fence import Lease
from app.repositories.leases import AttemptStart
from tests.integration.engine.attempts import make_lease
from tests.support.engine import LEASE, Process, World, claim_due
from tests.support.statements import list_searched, record_writes
from tests.support.waiting import run_other_tasks

SECOND = timedelta(seconds=1)


async def claim_and_hold(world: World, process: Process, count: int) -> list[Execution]:
    """Claim executions one by one, a millisecond apart, and hold their leases."""
    job = await world.add_job()
    claimed: list[Execution] = []
    for _ in range(count):
        await world.queue(job)
        claimed += await claim_due(process.leases, limit=1)
        process.keeper.hold(make_lease(claimed[-1]), since=world.clock.monotonic())
        world.clock.advance(timedelta(milliseconds=1))
    return claimed


def act_in_renewals(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[Sequence[Lease]], object]
) -> None:
    """Call `act` with the leases of each request to renew, before it is sent."""
    renew = HeartbeatRepository.renew

    def act_first(self: HeartbeatRepository, owner: str, leases: Any, **named: Any) -> set[str]:
        act(leases)
        return renew(self, owner, leases, **named)

    monkeypatch.setattr(HeartbeatRepository, "renew", act_first)


async def test_of_two_leases_the_lost_one_is_reported_and_the_other_one_is_renewed(
    world: World,
) -> None:
    process = world.compose_process()
    lost, kept = await claim_and_hold(world, process, 2)
    newcomer = lost.model_copy(update={"id": world.new_id()})
    executions = world.database.collection("executions")
    await executions.update_one({"_id": lost.id}, {"$set": {"live_for": lost.job_id}})
    await world.overlaps.terminate_live([newcomer])
    reported: list[set[Lease]] = []
    process.keeper._on_lost = reported.append
    process.keeper._loop = asyncio.get_running_loop()
    world.clock.advance(LEASE / 2)
    process.keeper.renew()
    await run_other_tasks()

    assert reported == [{make_lease(lost)}]
    assert (await world.read(lost)).lease_until is None
    assert (await world.read(kept)).lease_until == world.clock.now() + LEASE
    # Only the lease that was not renewed runs out at its old end.
    world.clock.advance(LEASE / 2)
    assert process.keeper.list_expiring(within=timedelta(0)) == {lost.id}


async def test_a_renewed_lease_counts_from_before_the_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database may have extended the lease at any instant of the request."""
    process = world.compose_process()
    (claimed,) = await claim_and_hold(world, process, 1)
    started_at = world.clock.monotonic()
    act_in_renewals(monkeypatch, lambda _: world.clock.advance(LEASE / 2))
    process.keeper.renew()

    world.clock.advance(timedelta(seconds=started_at - world.clock.monotonic()) + LEASE - SECOND)
    assert process.keeper.list_expiring(within=SECOND) == {claimed.id}
    assert process.keeper.list_expiring(within=SECOND * 0.999) == set()


async def test_after_a_failed_request_the_leases_renewed_so_far_count(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.engine.lease_keeper.RENEWAL_BATCH", 2)
    process = world.compose_process()
    claimed = await claim_and_hold(world, process, 5)
    requests: list[list[str]] = []

    def fail_second(leases: Sequence[Lease]) -> None:
        requests.append([lease.execution_id for lease in leases])
        if len(requests) == 2:
            raise UnavailableError("no primary")

    act_in_renewals(monkeypatch, fail_second)
    world.clock.advance(LEASE / 2)
    process.keeper.renew()
    ids = [execution.id for execution in claimed]
    assert requests == [ids[:2], ids[2:4]]
    assert process.keeper.list_expiring(within=LEASE / 2) == set(ids[2:])

    # The leases that run out first are renewed first.
    process.keeper.renew()
    assert requests[2:] == [ids[2:4], [ids[4], ids[0]], [ids[1]]]
    assert process.keeper.list_expiring(within=LEASE / 2) == set()


async def test_a_lease_that_is_released_during_a_renewal_is_not_renewed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.engine.lease_keeper.RENEWAL_BATCH", 1)
    process = world.compose_process()
    first, second = await claim_and_hold(world, process, 2)
    world.clock.advance(LEASE / 2)
    act_in_renewals(monkeypatch, lambda _: process.keeper.release(make_lease(second)))
    process.keeper.renew()
    assert (await world.read(first)).lease_until == world.clock.now() + LEASE
    assert (await world.read(second)).lease_until == second.lease_until


async def test_a_lease_that_ends_during_its_renewal_is_neither_held_nor_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    renewed, queued_again = await claim_and_hold(world, process, 2)
    reported: list[set[Lease]] = []
    process.keeper._on_lost = reported.append
    process.keeper._loop = asyncio.get_running_loop()
    executions = world.database.collection("executions")
    await executions.update_one({"_id": queued_again.id}, {"$set": {"status": "queued"}})

    def release(leases: Sequence[Lease]) -> None:
        for lease in leases:
            process.keeper.release(lease)

    act_in_renewals(monkeypatch, release)
    process.keeper.renew()
    await run_other_tasks()
    assert (await world.read(renewed)).lease_until == world.clock.now() + LEASE
    assert process.keeper.list_expiring(within=timedelta(days=1)) == set()
    assert reported == []


@pytest.mark.parametrize("responds", [True, False])
async def test_renewals_that_take_longer_than_a_lease_continue_while_the_event_loop_responds(
    world: World, monkeypatch: pytest.MonkeyPatch, responds: bool
) -> None:
    monkeypatch.setattr("app.engine.lease_keeper.RENEWAL_BATCH", 1)
    process = world.compose_process()
    await claim_and_hold(world, process, 5)
    process.keeper._note_response()

    def call_soon(function: Callable[..., object], *arguments: object) -> None:
        if responds:
            function(*arguments)

    loop = Mock(call_soon_threadsafe=call_soon)
    monkeypatch.setattr(process.keeper, "_loop", loop)
    requests: list[float] = []

    def take_time(_: object) -> None:
        requests.append(world.clock.monotonic())
        world.clock.advance(LEASE / 2)

    act_in_renewals(monkeypatch, take_time)
    process.keeper.renew()
    assert len(requests) == (5 if responds else 3)


async def test_10_000_leases_are_renewed_by_few_statements_that_search_no_list(
    world: World,
) -> None:
    """`WORKER_CONCURRENCY` allows 10,000, and a lease of 5 s is renewed every 1.25 s."""
    process = world.compose_process()
    until = world.clock.now() + LEASE
    leases = [Lease(f"{n:032x}", token=1 + n % 4) for n in range(10_000)]
    executions = world.database.collection("executions")
    await executions.insert_many(
        {
            "_id": lease.execution_id,
            "status": "running",
            "lease_owner": "process-1",
            "lease_token": lease.token,
            "lease_until": until,
        }
        for lease in leases
    )
    for lease in leases:
        process.keeper.hold(lease, since=world.clock.monotonic())
    world.clock.advance(SECOND)
    recorded = record_writes(process.heartbeat)
    process.keeper.renew()

    assert len(recorded.writes) == 10
    assert [list_searched(write) for write in recorded.writes] == [[]] * 10
    assert max(recorded.count_bytes()) < 200_000
    assert await executions.count_documents({"lease_until": until + SECOND}) == 10_000
    assert process.keeper.list_expiring(within=LEASE - SECOND) == set()


async def test_leases_with_many_different_tokens_are_renewed_in_short_conditions(
    world: World,
) -> None:
    """The database compares each execution with each group of equal tokens."""
    process = world.compose_process()
    leases = [Lease(f"{n:032x}", token=n + 1) for n in range(250)]
    executions = world.database.collection("executions")
    await executions.insert_many(
        {
            "_id": lease.execution_id,
            "status": "running",
            "lease_owner": "process-1",
            "lease_token": lease.token,
            "lease_until": world.clock.now() + LEASE,
        }
        for lease in leases
    )
    recorded = record_writes(process.heartbeat)
    kept = process.heartbeat.renew("process-1", leases, term=LEASE)
    assert kept == {lease.execution_id for lease in leases}
    assert [len(write["q"]["$or"]) for write in recorded.writes] == [100, 100, 50]
    assert len(await process.leases.list_held(leases)) == 250
    started = await process.leases.start([AttemptStart(lease, 1, 1) for lease in leases])
    assert started == [False] * 250  # they have no list of attempts
