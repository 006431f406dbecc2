"""The checker detects each broken variant of the engine, and passes the unchanged engine.

`acknowledged_by_one` needs a failover, so `make chaos-smoke` tests it.
The life tests test the others.
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


class Recorder:
    """Records what the driver and the receiver of a chaos run would record."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.evidence = Evidence()
        self.may_respond = asyncio.Event()
        self.may_respond.set()
        world.targets.outcome_of = self._receive

    async def create_job(self, **changes: Any) -> Job:
        """Store a job that runs every second, and record its creation as acknowledged now."""
        schedule = self.world.every(1)
        job = await self.world.add_job(schedule, **changes)
        self._call("create", start_at=schedule.anchor_at, period=SECOND)
        return job

    def record_sent_pause(self) -> None:
        """Record a pause without a response: slots after it may be recorded."""
        self._call("pause", Result.UNKNOWN)

    def _call(self, verb: str, result: Result = Result.OK, **facts: Any) -> None:
        now = self.world.clock.now()
        self.evidence.calls.append(Call(verb, "a job", result, now, now, **facts))

    async def _receive(self, sent: Sent) -> Outcome:
        await self.may_respond.wait()
        now = self.world.clock.now()
        self.evidence.deliveries.append(
            Delivery(sent.execution_id, sent.attempt, sent.scheduled_for, now, 200)
        )
        return SUCCEEDED


Scenario = Callable[[Recorder, pytest.MonkeyPatch], Awaitable[None]]


class Killed(BaseException):
    """Stands for kill -9 inside the process."""


async def crash_while_firing(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler is killed before it writes the records; another one continues."""
    world = recorder.world
    one, two = world.process(), world.process()
    await recorder.create_job()
    world.clock.advance(SECOND)
    with monkeypatch.context() as patch:
        patch.setattr(type(world.executions), "insert_many", _kill)
        with pytest.raises(Killed):
            await one.scheduler.tick()
    await _fire_and_work(two)
    recorder.record_sent_pause()


async def _kill(*_: object) -> None:
    raise Killed


async def finish_late(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is frozen past its lease and finishes while another one runs the execution."""
    world = recorder.world
    one, two = world.process(), world.process()
    await recorder.create_job()
    world.clock.advance(SECOND)
    recorder.may_respond.clear()
    await one.schedule()
    await one.worker.tick()
    recorder.record_sent_pause()
    recorder.evidence.faults.append(Fault("freeze", world.clock.now()))
    world.clock.advance(LEASE)
    await two.reaper.tick()
    await two.worker.tick()
    recorder.may_respond.set()
    await one.finish_attempts()
    await two.finish_attempts()


async def fire_by_two_schedulers(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two schedulers fire the same due job, whose executions may overlap."""
    world = recorder.world
    one, two = world.process(), world.process()
    job = await recorder.create_job(overlap_policy=OverlapPolicy.ALLOW_ALL)
    world.clock.advance(SECOND)
    recorder.record_sent_pause()
    for process in (one, two):
        await process.firing.fire([job], world.clock.now())
    await _fire_and_work(one)


async def fire_one_slot(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot becomes due and runs."""
    process = recorder.world.process()
    await recorder.create_job()
    recorder.world.clock.advance(SECOND)
    recorder.record_sent_pause()
    await _fire_and_work(process)


async def _fire_and_work(process: Process) -> None:
    await process.schedule()
    await process.work()


@dataclass(frozen=True, slots=True)
class Case:
    """A variant, the events that expose it, and the invariant that the checker then reports."""

    variant: Callable[[variants.Patch], None]
    scenario: Scenario
    invariant: str


CASES = {
    "next_run before record": Case(
        variants.next_run_before_record, crash_while_firing, "no slot missing"
    ),
    "no fence": Case(variants.no_fence, finish_late, "attempts in bounds"),
    "no slot index": Case(variants.no_slot_index, fire_by_two_schedulers, "no slot recorded twice"),
    "own clock": Case(variants.own_clock, fire_one_slot, "no slot invented"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.mark.parametrize("broken", [False, True], ids=["unchanged", "broken"])
async def test_the_checker_passes_the_engine_and_detects_the_variant(
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
        recorder = Recorder(world)
        await case.scenario(recorder, monkeypatch)
    finally:
        await world.close()
    read_database(mongo_client, database_name, recorder.evidence, since=since)
    violated = {finding.name for finding in judge(recorder.evidence) if finding.violations}
    assert (case.invariant in violated) if broken else violated == set()
