"""What executions have sent is stored while one of them refers to it, and no longer."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.engine import revision_janitor as module
from app.engine.revision_janitor import RevisionJanitor
from app.models.execution import Attempt, ExecutionStatus
from app.models.job import Job
from app.models.job_revision import RevisionKey
from app.models.outcome import Outcome
from app.models.user import Actor, Role
from app.repositories.job_revisions import JobRevisionRepository
from app.repositories.replaced_revisions import ReplacedRevisionRepository
from app.schemas.jobs import JobUpdate
from app.targets.target import Delivery
from tests.support.commands import CommandLog
from tests.support.engine import OWNER_ID, SUCCEEDED, World

DAY = timedelta(days=1)
OWNER = Actor(user_id=OWNER_ID, username="owner", role=Role.EDITOR)


def open_janitor(world: World) -> RevisionJanitor:
    return RevisionJanitor(revisions=ReplacedRevisionRepository(world.database))


async def clean(janitor: RevisionJanitor, *, rounds: int = 200) -> None:
    """Make one pass over all records."""
    for _ in range(rounds):
        if await janitor.tick() > timedelta(minutes=1):
            return
    raise AssertionError("the pass does not end")


async def edit(world: World, job: Job, n: int) -> None:
    await world.api.jobs.edit(OWNER, job.id, JobUpdate(parameters={"n": n}))


async def add_execution(world: World, job: Job, *revisions: int, **fields: Any) -> str:
    """Store a finished execution with an attempt of each of these revisions."""
    now = world.clock.now()
    tries = tuple(
        Attempt(number=number, job_revision=revision, started_at=now, finished_at=now)
        for number, revision in enumerate(revisions, start=1)
    )
    fields = {"status": ExecutionStatus.FAILED, "finished_at": now} | fields
    return (await world.queue(job, attempts=tries, **fields)).id


async def list_revisions(world: World, job: Job) -> list[int]:
    records = world.database.collection("job_revisions")
    found = await records.find({"job_id": job.id}).sort("_id", 1).to_list(None)
    return [record["revision"] for record in found]


async def test_an_execution_shows_what_its_target_received(world: World) -> None:
    """Also if the job is edited while its attempts are running."""
    job = await world.add_job(parameters={"n": 1})
    worker = world.compose_process()
    edits = iter(range(2, 100))

    async def deliver(_: Delivery) -> Outcome:
        await edit(world, job, next(edits))
        return SUCCEEDED

    world.targets.outcome_of = deliver
    for _ in range(5):
        world.clock.advance(timedelta(seconds=1))
        await world.queue(job)
        await worker.work()
    sent = {one.execution_id: one.parameters for one in world.targets.deliveries}
    assert [one["n"] for one in sent.values()] == [1, 2, 3, 4, 5]
    shown = {id_: (await world.api.executions.get(OWNER, id_)).parameters for id_ in sent}
    assert shown == sent


async def test_records_to_which_no_execution_refers_are_deleted_after_a_day(world: World) -> None:
    job = await world.add_job()
    for n in (2, 3, 4, 5):
        await edit(world, job, n)
    await add_execution(world, job, 2)
    await add_execution(world, job, 3, 4)
    janitor = open_janitor(world)
    world.clock.advance(DAY - timedelta(seconds=1))
    await clean(janitor)
    assert await list_revisions(world, job) == [1, 2, 3, 4]
    world.clock.advance(timedelta(seconds=2))
    await clean(janitor)
    assert await list_revisions(world, job) == [2, 3, 4]


async def test_records_stay_while_an_execution_exists_and_go_with_it(world: World) -> None:
    job, other = await world.add_job(), await world.add_job()
    for one in (job, other):
        await edit(world, one, 2)
        await edit(world, one, 3)
        await add_execution(world, one, 1)
        await add_execution(world, one, 2)
    await world.api.jobs.delete(OWNER, job.id)
    assert await list_revisions(world, job) == [1, 2, 3]
    executions = world.database.collection("executions")
    world.clock.advance(365 * DAY)
    await clean(open_janitor(world))
    assert await list_revisions(world, job) == await list_revisions(world, other) == [1, 2]
    await executions.delete_many({"job_id": job.id, "attempts.job_revision": 1})
    await clean(open_janitor(world))
    assert await list_revisions(world, job) == [2]
    await executions.delete_many({"job_id": job.id})
    await clean(open_janitor(world))
    assert await list_revisions(world, job) == []
    assert await list_revisions(world, other) == [1, 2]


async def test_an_execution_that_is_not_finished_keeps_its_record(world: World) -> None:
    job = await world.add_job()
    await add_execution(world, job, 1, status=ExecutionStatus.QUEUED, finished_at=None)
    await edit(world, job, 2)
    world.clock.advance(2 * DAY)
    await clean(open_janitor(world))
    assert await list_revisions(world, job) == [1]


@pytest.mark.parametrize("used", [1, 4, 7])
async def test_all_pages_of_a_history_are_read_before_a_record_is_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch, used: int
) -> None:
    monkeypatch.setattr(module, "_EXECUTIONS", 2)
    monkeypatch.setattr(module, "_RECORDS", 3)
    job = await world.add_job()
    for n in range(2, 9):
        await edit(world, job, n)
    for n in range(7):
        if n % 3 == 0:  # some executions have the same slot
            world.clock.advance(timedelta(seconds=1))
        await add_execution(world, job, used if n == used - 1 else 8)
    await add_execution(world, await world.add_job(), 5)
    world.clock.advance(2 * DAY)
    await clean(open_janitor(world))
    assert await list_revisions(world, job) == [used]


async def test_an_edit_that_renews_a_record_keeps_the_janitor_from_deleting_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process has stored the record and then died before its edit. A day later the janitor reads
    it at the same time as another edit."""
    job = await world.add_job(parameters={"n": 1})
    await world.api.jobs._revisions.keep(job, world.clock.now())
    world.clock.advance(2 * DAY)
    list_used = ReplacedRevisionRepository.list_used

    async def edit_meanwhile(self: ReplacedRevisionRepository, *args: Any, **options: Any) -> Any:
        used = await list_used(self, *args, **options)
        await add_execution(world, job, 1)
        await edit(world, job, 2)
        return used

    monkeypatch.setattr(ReplacedRevisionRepository, "list_used", edit_meanwhile)
    await clean(open_janitor(world))
    assert await list_revisions(world, job) == [1]


async def test_malformed_records_and_executions_harm_only_themselves(world: World) -> None:
    job, other = await world.add_job(), await world.add_job()
    for one in (job, other):
        await edit(world, one, 2)
        await edit(world, one, 3)
        await add_execution(world, one, 2)
    records = world.database.collection("job_revisions")
    odd: list[dict[str, Any]] = [
        {"_id": "0", "job_id": 5},
        {"_id": "1", "replaced_at": "yesterday", "job_id": job.id, "revision": 1},
        {"_id": f"{job.id}:9", "job_id": job.id, "revision": "x", "replaced_at": job.created_at},
        {"_id": 7},
        {"_id": "2", "schema": 10**6, "job_id": job.id},
    ]
    await records.insert_many(odd)
    executions = world.database.collection("executions")
    await executions.insert_many(
        {"_id": str(n), "job_id": job.id, "scheduled_for": slot, "attempts": tries}
        for n, (slot, tries) in enumerate(
            [(None, 7), (world.clock.now(), ["x", {"job_revision": []}]), ("x", None)]
        )
    )
    world.clock.advance(2 * DAY)
    await clean(open_janitor(world))
    left = {record["_id"] for record in await records.find().to_list(None)}
    kept = {RevisionKey(job.id, 2).id, RevisionKey(other.id, 2).id}
    assert left == kept | {one["_id"] for one in odd}


async def test_several_janitors_may_work_at_the_same_time(world: World) -> None:
    job = await world.add_job()
    for n in range(2, 7):
        await edit(world, job, n)
    await add_execution(world, job, 3)
    world.clock.advance(2 * DAY)
    await asyncio.gather(*(clean(open_janitor(world)) for _ in range(3)))
    assert await list_revisions(world, job) == [3]


async def test_a_record_of_a_newer_release_is_neither_replaced_nor_shown(world: World) -> None:
    job = await world.add_job(parameters={"n": 1})
    execution_id = await add_execution(world, job, 1)
    records = world.database.collection("job_revisions")
    newer = {"_id": RevisionKey(job.id, 1).id, "schema": 10**6, "parameters": "of another form"}
    await records.insert_one(newer)
    await edit(world, job, 2)
    assert await records.find().to_list(None) == [newer]
    assert (await world.api.executions.get(OWNER, execution_id)).parameters is None


async def test_ids_that_look_like_variables_of_the_database_harm_only_themselves(
    world: World,
) -> None:
    job = await world.add_job(parameters={"n": 1})
    key = RevisionKey(job.id, job.revision)
    odd = RevisionKey("$$x", 1)
    found = await JobRevisionRepository(world.database).find_parameters([odd, key])
    assert found == {odd: None, key: {"n": 1}}


async def test_most_edits_do_not_sum_up_the_records_of_the_owner(
    counted: World, commands: CommandLog
) -> None:
    job = await counted.add_job()
    for n in range(10):
        await edit(counted, job, n)
    assert commands.commands.count(("aggregate", "job_revisions")) == 1
