"""A document for which the database rejects writes harms only itself, in every role."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from bson import encode
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from structlog.testing import capture_logs

from app.errors import UnavailableError
from app.models.execution import Execution, ExecutionStatus
from app.repositories.leases import LeaseRepository
from app.repositories.mongo import open_client
from tests.integration.engine.attempts import lose_responses
from tests.support.engine import LEASE, Process, World, claim_due, open_world

MAX_BYTES = 16 * 1024 * 1024
"""The limit of a document. An update that exceeds it is rejected with all others of its batch."""

Document = dict[str, Any]
Client = MongoClient[Document]
ROLES = ["worker", "worker in doubt", "reaper", "reaper of a started attempt"]


@pytest.fixture
async def world(mongo_uri: str, emptied_database_name: str) -> AsyncIterator[World]:
    world = await open_world(mongo_uri, emptied_database_name, driver=open_client)
    yield world
    await world.close()


@pytest.fixture
def executions(mongo_client: Client, world: World) -> Iterator[Any]:
    executions = mongo_client[world.name]["executions"]
    yield executions
    executions.database.command("collMod", executions.name, validator={})


def fill(executions: Any, id_: str) -> None:
    """Make a document as large as MongoDB allows."""
    document = executions.find_one_and_delete({"_id": id_}) | {"unknown": ""}
    document["unknown"] = "x" * (MAX_BYTES - len(encode(document)))
    executions.database.client.admin.command("fsync")  # else the cache may have no room for it
    executions.insert_one(document)


def reject_writes(executions: Any, id_: str) -> None:
    """Let MongoDB reject each update after which the document still has its field `unknown`."""
    executions.update_one({"_id": id_}, {"$set": {"unknown": True}})
    validator = {"unknown": {"$ne": True}}
    executions.database.command("collMod", executions.name, validator=validator)


def rename(executions: Any, old: str, new: str) -> None:
    document = executions.find_one_and_delete({"_id": old})
    executions.insert_one(document | {"_id": new})


async def queue_two(world: World) -> tuple[Execution, Execution]:
    odd_job, job = await world.add_job(), await world.add_job()
    odd = await world.queue(odd_job, live_for=odd_job.id)
    return odd, await world.queue(job, live_for=job.id)


async def take_over(
    world: World, role: str, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> Process:
    """Damage an execution before this role acts on it. Return the process that acts next."""
    dead, alive = world.compose_process(), world.compose_process()
    match role:
        case "worker":
            damage()
        case "worker in doubt":
            with lose_responses(monkeypatch, "claim"):
                await alive.worker.tick()
            damage()
        case _:
            if role == "reaper":
                await claim_due(dead.leases, limit=2)
            else:
                with lose_responses(monkeypatch, "start"):
                    await dead.worker.tick()
            damage()
            world.clock.advance(LEASE)
    return alive


async def act(process: Process) -> None:
    for _ in range(2):
        await process.work()
        await process.reaper.tick()


async def test_an_execution_without_room_for_a_claim_ends_and_the_others_run(
    world: World, executions: Any
) -> None:
    odd, healthy = await queue_two(world)
    fill(executions, odd.id)
    await act(world.compose_process())
    assert (await world.read(healthy)).status is ExecutionStatus.SUCCEEDED
    ended = await world.read(odd)
    assert (ended.status, ended.reason, ended.live_for) == ("failed", "unreadable", None)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("role", ROLES)
async def test_an_execution_whose_writes_are_rejected_ends_and_the_others_run(
    world: World, executions: Any, monkeypatch: pytest.MonkeyPatch, role: str, is_first: bool
) -> None:
    odd, healthy = (await queue_two(world))[:: 1 if is_first else -1]
    process = await take_over(world, role, monkeypatch, lambda: reject_writes(executions, odd.id))
    with capture_logs() as logs:
        await act(process)
    assert (await world.read(healthy)).status is ExecutionStatus.SUCCEEDED
    ended = await world.read(odd)
    assert (ended.status, ended.reason) == ("failed", "unreadable")
    assert (ended.live_for, ended.lease_until, ended.attempts) == (None, None, ())
    assert [one["event"] for one in logs].count("execution_unreadable") == 1
    job = await world.jobs.get(odd.job_id, owner_id=None)
    assert (job.last_run, job.last_status) == (odd.scheduled_for, ExecutionStatus.FAILED)
    assert process.worker._claims_in_doubt_since is None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("id_", ["$$x", "$status"])
async def test_an_id_that_looks_like_an_expression_is_an_id(
    world: World, executions: Any, monkeypatch: pytest.MonkeyPatch, role: str, id_: str
) -> None:
    odd, healthy = await queue_two(world)
    rename(executions, odd.id, id_)
    process = await take_over(world, role, monkeypatch, lambda: None)
    world.targets.deliveries.clear()
    await act(process)
    assert {one.execution_id for one in world.targets.deliveries} == {id_, healthy.id}
    assert set(executions.distinct("status")) == {"succeeded"}


async def test_a_rejected_end_of_a_claim_holds_no_worker(
    world: World, executions: Any, mongo_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job was deleted, so the worker ends the claim through the recorder."""
    odd, healthy = await queue_two(world)
    mongo_client[world.name]["jobs"].delete_one({"_id": odd.job_id})
    process = await take_over(
        world, "worker in doubt", monkeypatch, lambda: reject_writes(executions, odd.id)
    )
    await act(process)
    assert (await world.read(odd)).reason == "unreadable"
    assert (await world.read(healthy)).status is ExecutionStatus.SUCCEEDED


async def test_an_outage_while_a_batch_is_divided_ends_nothing(
    world: World, executions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue_two(world)
    process = world.compose_process()
    calls = 0

    async def fail(self: LeaseRepository, starts: Any) -> list[bool]:
        nonlocal calls
        calls += 1
        raise OperationFailure("rejected", code=2) if calls == 1 else UnavailableError("no primary")

    with monkeypatch.context() as patched:
        patched.setattr(LeaseRepository, "_start_part", fail)
        with pytest.raises(UnavailableError):
            await process.worker.tick()
    await act(process)
    assert set(executions.distinct("status")) == {"succeeded"}


async def test_a_bug_in_a_write_ends_no_execution(
    world: World, executions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue_two(world)
    process = world.compose_process()

    async def fail(self: LeaseRepository, starts: Any) -> list[bool]:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(LeaseRepository, "_start_part", fail)
        with pytest.raises(ZeroDivisionError):
            await process.worker.tick()
    await act(process)
    assert set(executions.distinct("status")) == {"succeeded"}
