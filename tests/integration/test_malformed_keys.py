"""An array in a field that is read as a key stops no other job.

Conditions of equality also match an array that contains the value.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import bson
import pytest
from structlog.testing import capture_logs

from app.models.execution import Execution, ExecutionKind, ExecutionStatus
from app.models.job import Job
from app.models.policy import OverlapPolicy
from app.repositories.documents import to_document
from tests.support.engine import Process, World, open_pymongo_client, open_world

SECOND = timedelta(seconds=1)
PERIOD = timedelta(seconds=10)
MAX_BYTES = 16 * 1024 * 1024
POLICIES = [policy for policy in OverlapPolicy if policy is not OverlapPolicy.ALLOW_ALL]
Document = dict[str, Any]

WAITING: Document = {"status": "queued", "waiting": True, "place": 0}
FINAL: Document = {"status": "succeeded"}
ARRAYS: dict[str, tuple[list[str], Document]] = {
    "the schedule of a record": (["schedule_id"], {"status": "skipped"}),
    "the slot of a record": (["scheduled_for"], {"status": "skipped"}),
    "the kind of a record": (["kind"], {"status": "skipped"}),
    "the position of a waiting execution": (["place"], WAITING),
    "the job of a waiting execution": (["job_id"], WAITING),
    "the job of a live execution": (["live_for"], {"status": "queued"}),
    "the job of a final execution": (["live_for"], FINAL),
    "all keys of a final execution": (["live_for", "job_id", "schedule_id"], FINAL),
}
"""The fields that become arrays, and the other changes of the execution."""


@pytest.fixture
def database_name(emptied_database_name: str) -> str:
    return emptied_database_name


@pytest.fixture
async def world(mongo_uri: str, database_name: str) -> AsyncIterator[World]:
    world = await open_world(mongo_uri, database_name, driver=open_pymongo_client)
    yield world
    await world.close()


async def plant(world: World, execution: Execution, changes: Document) -> None:
    """Store an execution; a key with the value None is left out."""
    document = to_document(execution, omit_none=True) | changes
    stored = {name: value for name, value in document.items() if value is not None}
    await world.database.collection("executions").insert_one(stored)


def make_record(world: World, job: Job, **changes: Any) -> Execution:
    """Return an execution of the first slot of the job's schedule."""
    [schedule] = job.schedules
    assert schedule.next_run is not None
    return Execution.queue(
        world.new_id(),
        job_id=job.id,
        owner_id=job.owner_id,
        schedule_id=schedule.id,
        kind=ExecutionKind.SCHEDULED,
        scheduled_for=schedule.next_run,
        run_at=world.clock.now(),
        policy=OverlapPolicy.SKIP,
        now=world.clock.now(),
    ).model_copy(update=changes)


async def run_rounds(world: World, process: Process) -> None:
    for _ in range(3):
        await process.scheduler.tick()
        await process.reaper.tick()
        await process.work()
        world.clock.advance(SECOND)


@pytest.mark.parametrize("with_waiting", [False, True], ids=["alone", "with a waiting one"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("fields", "changes"), ARRAYS.values(), ids=list(ARRAYS))
async def test_an_array_in_place_of_a_key_does_not_stop_other_jobs(
    world: World,
    fields: list[str],
    changes: Document,
    policy: OverlapPolicy,
    with_waiting: bool,
) -> None:
    process = world.compose_process()
    odd, healthy = [await world.add_job(world.every(10), overlap_policy=policy) for _ in range(2)]
    await process.scheduler.tick()
    record = make_record(world, odd)
    document = to_document(record)
    other_slot = record.scheduled_for - 2 * SECOND
    if "schedule_id" not in fields:
        document["scheduled_for"] = other_slot
    if "live_for" not in fields:
        live = {"status": "running", "lease_until": world.clock.now() + 60 * SECOND}
        earlier = make_record(world, odd, scheduled_for=other_slot - SECOND)
        await plant(world, earlier, live | {"lease_owner": "another", "lease_token": 1})
        document["live_for"] = None
    await plant(
        world,
        record,
        {"scheduled_for": document["scheduled_for"], "live_for": document["live_for"]}
        | changes
        | {name: [(document | changes)[name], {"a": 1}] for name in fields},
    )
    if with_waiting:
        third = make_record(world, odd, scheduled_for=other_slot + SECOND)
        await plant(world, third, WAITING | {"place": 5, "live_for": None})
    world.clock.advance(PERIOD)
    await run_rounds(world, process)

    [execution] = await world.list_executions(healthy)
    assert execution.status is ExecutionStatus.SUCCEEDED
    advanced = await world.jobs.get(healthy.id, owner_id=None)
    assert advanced.next_run is not None
    assert advanced.next_run > world.clock.now()


async def test_the_newest_slot_is_read_also_if_its_record_has_an_array(world: World) -> None:
    job = await world.add_job(world.every(10))
    record = make_record(world, job)
    await plant(world, record, {"schedule_id": [record.schedule_id]})
    assert await world.executions.list_newest_slots([job.schedules[0].id]) == {}


async def test_an_unreadable_job_without_room_for_a_reason_is_no_longer_due(world: World) -> None:
    process = world.compose_process()
    odd, healthy = [await world.add_job(world.every(10)) for _ in range(2)]
    await process.scheduler.tick()
    jobs = world.database.collection("jobs")
    document = await jobs.find_one({"_id": odd.id})
    assert document is not None
    document |= {"name": 5, "pad": ""}
    document["pad"] = "x" * (MAX_BYTES - len(bson.encode(document)) - 2)
    await jobs.delete_one({"_id": odd.id})
    await jobs.insert_one(document)
    world.clock.advance(PERIOD)
    with capture_logs() as logs:
        await run_rounds(world, process)
    assert [e.status for e in await world.list_executions(healthy)] == [ExecutionStatus.SUCCEEDED]
    stored = await jobs.find_one({"_id": odd.id}, {"next_run": True})
    assert stored == {"_id": odd.id}
    assert [line["event"] for line in logs if "job_" in line["event"]] == ["job_unreadable"]
