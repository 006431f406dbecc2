"""Owners take turns when their jobs are fired: many due slots of one do not delay the others."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from app.engine import scheduler
from app.models.execution import Execution
from app.models.job import Job
from app.models.policy import OverlapPolicy
from app.repositories import due_jobs
from app.repositories.documents import SCHEMA_VERSION
from app.repositories.due_jobs import ALL
from app.repositories.executions import InsertResult
from tests.integration.engine.jobs import add_jobs
from tests.support.engine import Process, World

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


async def add_attacker(world: World, count: int, schedules: int = 1) -> list[Job]:
    return await add_jobs(
        world,
        count,
        schedules,
        owner_id="attacker",
        overlap_policy=OverlapPolicy.ALLOW_ALL,
    )


async def cover_minute(world: World, *processes: Process) -> None:
    """Let a minute pass in which these processes schedule, but fire nothing. So no slot is late."""
    for _ in range(20):
        world.clock.advance(3 * SECOND)
        for process in processes:
            await process.scheduler._ticks.cover()


async def is_recorded(world: World, job: Job) -> bool:
    return bool(await world.list_executions(job))


@pytest.fixture
async def process(world: World) -> Process:
    process = world.compose_process()
    await process.scheduler.tick()
    return process


def note_sizes(process: Process, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Execution]]:
    """The executions of each insert from now on."""
    executions = process.runtime.repositories.executions
    insert_many, inserted = executions.insert_many, []

    async def note(records: Sequence[Execution]) -> list[InsertResult]:
        if records:
            inserted.append(records)
        return await insert_many(records)

    monkeypatch.setattr(executions, "insert_many", note)
    return inserted


def slow_down(world: World, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each write of a firing take a second."""
    jobs = process.runtime.repositories.jobs
    advance = jobs.advance

    async def advance_slowly(advances: Any) -> int:
        world.clock.advance(SECOND)
        return await advance(advances)

    monkeypatch.setattr(jobs, "advance", advance_slowly)


@pytest.mark.parametrize("attackers", [1, 3])
async def test_a_due_job_does_not_wait_behind_the_many_due_jobs_of_another_owner(
    world: World, process: Process, attackers: int
) -> None:
    for n in range(attackers):
        await add_jobs(world, 600, owner_id=f"attacker {n}")
    world.clock.advance(SECOND)
    job = await world.add_job(world.every(60), owner_id="zoe")
    await cover_minute(world, process)

    await process.scheduler.tick()

    assert await is_recorded(world, job)


async def test_a_late_job_does_not_wait_behind_the_many_late_jobs_of_another_owner(
    world: World, process: Process
) -> None:
    await add_attacker(world, 600)
    world.clock.advance(SECOND)
    job = await world.add_job(world.every(60), owner_id="zoe")
    world.clock.advance(5 * MINUTE)

    await process.scheduler.tick()

    assert await is_recorded(world, job)


async def test_with_two_schedulers_each_finds_the_few_jobs_of_its_part(world: World) -> None:
    processes = [world.compose_process() for _ in range(2)]
    for process in (*processes, *processes):
        await process.scheduler.tick()
        world.clock.advance(2 * SECOND)
    await add_attacker(world, 1_400)
    world.clock.advance(SECOND)
    jobs = await add_jobs(world, 20, owner_id="zoe")
    await cover_minute(world, *processes)

    for process in processes:
        before = {job.id for job in jobs if await is_recorded(world, job)}
        await process.scheduler.tick()
        recorded = {job.id for job in jobs if await is_recorded(world, job)}
        ticks = process.scheduler._ticks
        part = ALL.of_part((await ticks.cover()).schedulers, ticks.scheduler)
        assert recorded - before == {job.id for job in jobs if part.includes(job.id)}


async def test_the_first_write_of_a_firing_has_the_jobs_of_all_owners(
    world: World, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_attacker(world, 100, schedules=20)
    job = await world.add_job(world.every(60), owner_id="zoe")
    await cover_minute(world, process)
    inserted = note_sizes(process, monkeypatch)

    await process.scheduler.tick()

    assert job.id in {execution.job_id for execution in inserted[0]}
    assert len(inserted[0]) <= 520


async def test_a_firing_ends_before_all_slots_of_an_owner_are_decided(
    world: World, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write takes a second. Jobs that become due meanwhile have their turn after one write."""
    await add_attacker(world, 200, schedules=20)
    await cover_minute(world, process)
    inserted = note_sizes(process, monkeypatch)
    slow_down(world, process, monkeypatch)
    await process.scheduler.tick()

    assert sum(map(len, inserted)) == 500
    assert process.scheduler._batch == 50  # twice as many jobs as were fired


async def test_late_jobs_have_their_turn_although_the_jobs_that_are_on_time_take_long(
    world: World, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = await world.add_job(world.every(60), owner_id="zoe")
    world.clock.advance(5 * MINUTE)
    await process.scheduler._ticks.cover()  # finds the gap, and fires nothing
    await add_attacker(world, 60, schedules=20)
    await cover_minute(world, process)
    slow_down(world, process, monkeypatch)
    await process.scheduler.tick()

    assert await is_recorded(world, late)


async def test_no_owner_is_passed_over_while_others_have_a_backlog(
    world: World, process: Process
) -> None:
    """Each owner has as many due jobs as a round fires, and so has a job in each round."""
    for owner_id in ("a", "b", "c"):
        await add_jobs(world, 500, owner_id=owner_id)
    await add_jobs(world, 2, owner_id="d")
    await cover_minute(world, process)
    for _ in range(2):
        await process.scheduler.tick()
    found = world.database.collection("executions").find({}, {"owner_id": True})
    counts = Counter([one["owner_id"] for one in await found.to_list(None)])
    assert counts["d"] == 2
    assert min(counts[owner_id] for owner_id in ("a", "b", "c")) >= 330


async def test_jobs_that_a_newer_release_wrote_do_not_hide_the_others(
    world: World, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = {"$set": {"schema": SCHEMA_VERSION + 1}}
    await add_jobs(world, 600)
    await world.database.collection("jobs").update_many({}, newer)
    world.clock.advance(SECOND)
    await add_jobs(world, 501)
    await cover_minute(world, process)
    for _ in range(4):
        await process.scheduler.tick()
    assert await world.database.collection("executions").count_documents({}) == 501


async def test_the_owners_of_a_long_backlog_take_turns_in_the_order_of_their_ids(
    world: World, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_BATCH", 2)
    monkeypatch.setattr(scheduler, "_MIN_BATCH", 2)
    process.scheduler._batch = 2
    for owner_id in "abcde":
        await add_jobs(world, 3, owner_id=owner_id)
    await cover_minute(world, process)
    inserted = note_sizes(process, monkeypatch)
    await process.schedule()
    rounds = ["".join(sorted(e.owner_id for e in batch)) for batch in inserted]
    assert rounds == ["ab", "cd", "ae", "bc", "de", "ab", "cd", "e"]


async def test_a_job_that_has_just_become_due_is_fired_behind_more_jobs_than_are_examined(
    world: World, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_jobs, "MAX_KEYS", 510)
    await add_attacker(world, 600)
    await add_jobs(world, 520, owner_id="another attacker")
    world.clock.advance(SECOND)
    job = await world.add_job(world.every(60), owner_id="zoe")
    await cover_minute(world, process)

    await process.scheduler.tick()

    assert await is_recorded(world, job)
