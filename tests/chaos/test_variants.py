"""The checker detects four broken variants and passes the unchanged engine.

The life tests detect all variants except `acknowledged_by_one`, which `make chaos-smoke` tests.
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
from app.targets.target import Delivery
from tests.chaos.evidence import (
    Call,
    Evidence,
    Fault,
    JobDefinition,
    ReceivedDelivery,
    Result,
    ScheduleDefinition,
)
from tests.chaos.invariants import judge
from tests.chaos.reading import read_database
from tests.support import variants
from tests.support.crash import Killed
from tests.support.engine import LEASE, SUCCEEDED, Process, World, open_world

SECOND = timedelta(seconds=1)


class EvidenceRecorder:
    """Records what the driver and the receiver of a chaos run would record."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.evidence = Evidence()
        self.may_respond = asyncio.Event()
        self.may_respond.set()
        world.targets.outcome_of = self._receive

    async def create_job(self, **changes: Any) -> Job:
        """Store a job that is due every second, and record its creation as acknowledged now."""
        schedule = self.world.every(1)
        job = await self.world.add_job(schedule, **changes)
        due = ScheduleDefinition(anchor=schedule.anchor_at, period=SECOND)
        self._call("create", definition=JobDefinition(schedules=(due,)))
        return job

    def record_sent_pause(self) -> None:
        """Record a pause without a response: slots after it may be recorded."""
        self._call("pause", Result.UNKNOWN)

    def _call(self, verb: str, result: Result = Result.OK, **facts: Any) -> None:
        now = self.world.clock.now()
        self.evidence.calls.append(Call(verb, "a job", result, now, now, **facts))

    async def _receive(self, sent: Delivery) -> Outcome:
        await self.may_respond.wait()
        now = self.world.clock.now()
        self.evidence.deliveries.append(
            ReceivedDelivery(sent.execution_id, sent.attempt, sent.scheduled_for, now, 200)
        )
        return SUCCEEDED


Scenario = Callable[[EvidenceRecorder, pytest.MonkeyPatch], Awaitable[None]]


async def crash_while_firing(recorder: EvidenceRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler is killed before it writes the records; another one continues."""
    world = recorder.world
    one, two = world.compose_process(), world.compose_process()
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


async def finish_late(recorder: EvidenceRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen worker loses its lease, and finishes while another one executes the slot."""
    world = recorder.world
    one, two = world.compose_process(), world.compose_process()
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


async def fire_by_two_schedulers(
    recorder: EvidenceRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two schedulers fire the same due job, whose executions may overlap."""
    world = recorder.world
    one, two = world.compose_process(), world.compose_process()
    job = await recorder.create_job(overlap_policy=OverlapPolicy.ALLOW_ALL)
    world.clock.advance(SECOND)
    recorder.record_sent_pause()
    for process in (one, two):
        await process.firing.fire([job], world.clock.now())
    await _fire_and_work(one)


async def fire_one_slot(recorder: EvidenceRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot becomes due, and its execution succeeds."""
    process = recorder.world.compose_process()
    await recorder.create_job()
    recorder.world.clock.advance(SECOND)
    recorder.record_sent_pause()
    await _fire_and_work(process)


async def _fire_and_work(process: Process) -> None:
    await process.schedule()
    await process.work()


@dataclass(frozen=True, slots=True)
class VariantCase:
    """A variant, the events that expose it, and the invariant that the checker then reports."""

    variant: Callable[[variants.Patch], None]
    scenario: Scenario
    invariant: str


CASES = [
    VariantCase(variants.next_run_before_record, crash_while_firing, "no slot missing"),
    VariantCase(variants.no_fence, finish_late, "attempts in bounds"),
    VariantCase(variants.no_slot_index, fire_by_two_schedulers, "no slot recorded twice"),
    VariantCase(variants.own_clock, fire_one_slot, "no slot invented"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.variant.__name__)
@pytest.mark.parametrize("broken", [False, True], ids=["unchanged", "broken"])
async def test_the_checker_passes_the_engine_and_detects_the_variant(
    case: VariantCase,
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
        recorder = EvidenceRecorder(world)
        await case.scenario(recorder, monkeypatch)
    finally:
        await world.close()
    read_database(mongo_client, database_name, recorder.evidence, since=since)
    violated = {finding.name for finding in judge(recorder.evidence) if finding.violations}
    assert (case.invariant in violated) if broken else violated == set()
