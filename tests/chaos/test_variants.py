"""Each broken variant of the engine is caught by the checker; the engine as it is passes.

The fifth, `acknowledged_by_one`, needs a failover: `make chaos-smoke` has it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from bson import Timestamp
from pymongo import MongoClient

from app.models.job import Job
from app.models.outcome import Outcome
from app.models.policy import OverlapPolicy
from app.targets.target import Delivery as Sent
from tests.chaos.evidence import Call, Delivery, Evidence, Fault, Result, read_database
from tests.chaos.invariants import judge
from tests.support import variants
from tests.support.engine import LEASE, SUCCEEDED, Process, World, open_world

SECOND = timedelta(seconds=1)


class Witness:
    """Writes down what the driver and the receiver of a run would."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.evidence = Evidence()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        world.targets.answer = self._receive

    async def create_job(self, **changes: Any) -> Job:
        """Every second, acknowledged now."""
        schedule = self.world.every(1)
        job = await self.world.add_job(schedule, **changes)
        self._call("create", start_at=schedule.anchor_at, period=SECOND)
        return job

    def pause_sent(self) -> None:
        """What has come due by now must be there; what comes due later need not."""
        self._call("pause", Result.UNKNOWN)

    def _call(self, verb: str, result: Result = Result.OK, **facts: Any) -> None:
        now = self.world.clock.now()
        self.evidence.calls.append(Call(verb, "a job", result, now, now, **facts))

    async def _receive(self, sent: Sent) -> Outcome:
        await self.may_answer.wait()
        now = self.world.clock.now()
        self.evidence.deliveries.append(
            Delivery(sent.execution_id, sent.attempt, sent.scheduled_for, now, 200)
        )
        return SUCCEEDED


Story = Callable[[Witness, pytest.MonkeyPatch], Awaitable[None]]


class Killed(BaseException):
    """kill -9, as seen from inside."""


async def crash_while_firing(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler dies where it would write the records; another one goes on."""
    world = witness.world
    one, two = world.process(), world.process()
    await witness.create_job()
    world.clock.advance(SECOND)
    with monkeypatch.context() as patch:
        patch.setattr(type(world.executions), "insert_many", _killed)
        with pytest.raises(Killed):
            await one.scheduler.tick()
    await _go_on(two)
    witness.pause_sent()


async def _killed(*_: object) -> None:
    raise Killed


async def late_finish(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker sleeps past its lease and finishes while another one runs the same."""
    world = witness.world
    one, two = world.process(), world.process()
    await witness.create_job()
    world.clock.advance(SECOND)
    witness.may_answer.clear()
    await one.schedule()
    await one.worker.tick()
    witness.pause_sent()
    witness.evidence.faults.append(Fault("freeze", world.clock.now()))
    world.clock.advance(LEASE)
    await two.reaper.tick()
    await two.worker.tick()
    witness.may_answer.set()
    await one.settle()
    await two.settle()


async def two_schedulers(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two schedulers have read the same due job, whose runs do not exclude each other."""
    world = witness.world
    one, two = world.process(), world.process()
    job = await witness.create_job(overlap_policy=OverlapPolicy.ALLOW_ALL)
    world.clock.advance(SECOND)
    witness.pause_sent()
    for process in (one, two):
        await process.firing.fire([job], world.clock.now())
    await _go_on(one)


async def a_slot_comes_due(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing special happens."""
    process = witness.world.process()
    await witness.create_job()
    witness.world.clock.advance(SECOND)
    witness.pause_sent()
    await _go_on(process)


async def _go_on(process: Process) -> None:
    await process.schedule()
    await process.work()


@dataclass(frozen=True, slots=True)
class Case:
    """A variant, what has to happen for it to matter, and what the checker then names."""

    variant: Callable[[variants.Patch], None]
    story: Story
    invariant: str


CASES = {
    "next_run before record": Case(
        variants.next_run_before_record, crash_while_firing, "no slot missing"
    ),
    "no fence": Case(variants.no_fence, late_finish, "attempts in bounds"),
    "no slot index": Case(variants.no_slot_index, two_schedulers, "no slot recorded twice"),
    "own clock": Case(variants.own_clock, a_slot_comes_due, "no slot invented"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "broken"])
async def test_the_checker_passes_the_engine_and_catches_the_variant(
    case: Case,
    broken: bool,
    mongo_uri: str,
    database_name: str,
    mongo_client: MongoClient[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if broken:
        case.variant(monkeypatch.setattr)
    since: Timestamp = mongo_client[database_name].command("ping")["operationTime"]
    world = await open_world(mongo_uri, database_name)
    try:
        witness = Witness(world)
        await case.story(witness, monkeypatch)
    finally:
        await world.close()
    read_database(mongo_client, database_name, witness.evidence, since=since)
    violated = {finding.name for finding in judge(witness.evidence) if finding.violations}
    assert (case.invariant in violated) if broken else violated == set()
