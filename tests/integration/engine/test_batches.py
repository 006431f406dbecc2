"""A batch of due jobs takes a bounded number of statements, and schedulers share the jobs."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import bson
import pytest

from app.models.execution import Execution
from app.models.job import Job
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy
from app.models.schedule import MILLISECOND, CronSchedule
from app.repositories import advances
from app.repositories.advances import split_by_size
from app.repositories.due_jobs import DueJobs
from app.repositories.executions import InsertResult
from app.services import firing
from tests.integration.engine.jobs import add_jobs, count_statuses
from tests.support.commands import CommandLog
from tests.support.engine import Process, World

SECOND = timedelta(seconds=1)
OVERDUE = timedelta(milliseconds=100)
TIMER_SLACK = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def world(counted: World) -> World:
    return counted


async def pass_time(world: World, processes: Sequence[Process], duration: timedelta) -> None:
    """Let time pass while all of these processes schedule."""
    end = world.clock.now() + duration
    while world.clock.now() < end:
        world.clock.advance(min(2 * SECOND, end - world.clock.now()))
        for process in processes:
            await process.scheduler.tick()


@pytest.mark.parametrize("mode", CatchUpMode)
async def test_an_outage_of_many_schedules_takes_few_statements(
    world: World, commands: CommandLog, mode: CatchUpMode
) -> None:
    """Each schedule has five late slots."""
    process = world.compose_process()
    jobs = await add_jobs(
        world,
        80,
        schedules=20,
        catch_up=CatchUpPolicy(policy=mode),
        overlap_policy=OverlapPolicy.ALLOW_ALL,
    )
    world.clock.advance(5 * MINUTE + 30 * SECOND)
    commands.clear()
    while await process.firing.fire(jobs, world.clock.now()):
        jobs = await world.jobs.list_due(world.clock.now(), limit=80)
    records = {"one": (1_600, 1_600), "all": (0, 8_000), "none": (1_600, 0)}
    missed, queued = records[mode]
    assert await count_statuses(world) == Counter(missed=missed, queued=queued)
    rounds = 1 + (missed + queued) // 1_000
    assert commands.count() <= 16 * rounds


async def test_the_number_of_statements_does_not_depend_on_the_number_of_jobs(
    world: World, commands: CommandLog
) -> None:
    process = world.compose_process()
    counts = []
    for count in (1, 400):
        jobs = await add_jobs(world, count, overlap_policy=OverlapPolicy.ALLOW_ALL)
        world.clock.advance(MINUTE)
        commands.clear()
        assert await process.firing.fire(jobs, world.clock.now()) == count
        again = commands.count()
        assert await process.firing.fire(jobs, world.clock.now()) == 0  # all are recorded already
        counts.append((again, commands.count()))
        await world.database.collection("jobs").delete_many({})
    assert counts[0] == counts[1]


async def test_a_job_with_many_due_slots_is_fired_in_bounded_steps(world: World) -> None:
    process = world.compose_process()
    await process.scheduler.tick()
    job = await world.add_job(
        *(world.every(1) for _ in range(3)), overlap_policy=OverlapPolicy.ALLOW_ALL
    )
    for _ in range(200):  # the service schedules, but does not fire this job
        world.clock.advance(4 * SECOND)
        await process.scheduler._ticks.cover()
    sizes = []
    while await process.scheduler.tick() == timedelta(0):
        sizes.append(len(await world.list_executions(job)))
    assert sizes == [1_000, 2_000, 2_400]


async def test_a_stopping_scheduler_leaves_the_rest_of_its_batch_to_others(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    jobs = await add_jobs(world, 30, schedules=20, overlap_policy=OverlapPolicy.ALLOW_ALL)
    world.clock.advance(MINUTE)
    one.scheduler.stop()
    await one.scheduler.tick()
    assert await count_statuses(world) == Counter(queued=500)
    await one.scheduler.leave()
    await two.schedule()
    assert await count_statuses(world) == Counter(queued=len(jobs) * 20)


async def test_a_firing_that_takes_long_ends_and_the_next_one_continues(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    jobs = await add_jobs(world, 5)
    world.clock.advance(MINUTE)
    executions = process.runtime.repositories.executions
    insert_many, sizes = executions.insert_many, []

    async def note_size(records: Sequence[Execution]) -> list[InsertResult]:
        sizes.append(len(records))
        return await insert_many(records)

    new_id = process.firing._new_id

    def new_id_slowly() -> str:
        world.clock.advance(SECOND / 4)
        return new_id()

    monkeypatch.setattr(executions, "insert_many", note_size)
    monkeypatch.setattr(process.firing, "_new_id", new_id_slowly)
    await process.schedule()
    assert [size for size in sizes if size] == [2, 2, 1]
    assert await count_statuses(world) == Counter(queued=len(jobs))


async def test_a_stale_batch_is_not_decided_further(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    await process.scheduler.tick()
    jobs = await add_jobs(world, 60, schedules=20, overlap_policy=OverlapPolicy.ALLOW_ALL)
    world.clock.advance(MINUTE)
    executions = process.runtime.repositories.executions
    insert_many, decided = executions.insert_many, []

    async def freeze(records: Sequence[Execution]) -> list[InsertResult]:
        world.clock.advance(31 * SECOND)
        return await insert_many(records)

    decide = firing._decide

    def note(job: Job, *rest: Any, most: int) -> Any:
        decided.append(job)
        return decide(job, *rest, most=most)

    monkeypatch.setattr(executions, "insert_many", freeze)
    monkeypatch.setattr(firing, "_decide", note)
    assert await process.firing.fire(jobs, world.clock.now()) == 25
    assert len(decided) == 25


async def test_advances_are_cut_by_the_size_of_their_schedules(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement is at most 16 MB, and an advance writes all schedules of a job."""
    monkeypatch.setattr(advances, "_MAX_BYTES", 100_000)
    schedule = CronSchedule(id=world.new_id(), cron_expression="0 0 * * *".ljust(120))
    job = await world.add_job(*[schedule] * 20)
    chunks = list(split_by_size([(job, job)] * 100))
    assert sum(len(chunk) for chunk in chunks) == 100
    sizes = [sum(len(bson.encode({"": one.schedules})) for one in chunk) for chunk in chunks]
    assert max(sizes) <= 100_000
    assert len(chunks) <= 2 * sum(sizes) // 100_000


async def test_two_schedulers_insert_disjoint_records(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = [world.compose_process(), world.compose_process()]
    await add_jobs(world, 2_000)
    await pass_time(world, processes, MINUTE - SECOND)
    world.clock.advance(SECOND)
    results: dict[str, Counter[InsertResult]] = {}
    for process in processes:
        results[process.scheduler._ticks.scheduler or ""] = count_results(process, monkeypatch)

    for _ in range(6):
        await asyncio.gather(*(process.scheduler.tick() for process in processes))

    assert await count_statuses(world) == Counter(queued=2_000)
    for counter in results.values():
        assert 700 < counter[InsertResult.INSERTED] < 1_300
        assert counter[InsertResult.ALREADY_RECORDED] == 0


def count_results(process: Process, monkeypatch: pytest.MonkeyPatch) -> Counter[InsertResult]:
    executions = process.runtime.repositories.executions
    insert_many = executions.insert_many
    counter: Counter[InsertResult] = Counter()

    async def count(records: Sequence[Execution]) -> list[InsertResult]:
        results = await insert_many(records)
        counter.update(results)
        return results

    monkeypatch.setattr(executions, "insert_many", count)
    return counter


async def test_schedulers_insert_disjoint_records_of_few_jobs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = [world.compose_process() for _ in range(4)]
    await add_jobs(world, 100)
    await pass_time(world, processes, MINUTE - SECOND)
    world.clock.advance(SECOND)
    counters = [count_results(process, monkeypatch) for process in processes]
    await asyncio.gather(*(process.scheduler.tick() for process in processes))

    assert await count_statuses(world) == Counter(queued=100)
    assert [counter[InsertResult.ALREADY_RECORDED] for counter in counters] == [0] * 4


async def test_the_jobs_of_a_dead_scheduler_are_fired_when_they_are_overdue(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    await add_jobs(world, 50)
    await pass_time(world, [one, two], MINUTE - SECOND)
    world.clock.advance(SECOND)
    await one.schedule()  # the other one is dead
    assert 0 < (await count_statuses(world))["queued"] < 50
    world.clock.advance(OVERDUE)
    await one.schedule()
    assert await count_statuses(world) == Counter(queued=50)


async def test_jobs_of_others_are_left_to_them_until_they_are_overdue(world: World) -> None:
    """Also when a scheduler fires overdue jobs of a dead one."""
    one, two = world.compose_process(), world.compose_process()
    await add_jobs(world, 50)
    later = [await world.add_job(world.every(61)) for _ in range(50)]
    await pass_time(world, [one, two], MINUTE - SECOND)
    world.clock.advance(2 * SECOND)
    await one.schedule()
    fired = [job for job in later if await world.list_executions(job)]
    assert 0 < len(fired) < 50
    assert await count_statuses(world) == Counter(queued=50 + len(fired))


async def test_a_scheduler_wakes_when_a_job_of_a_dead_one_is_overdue(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    await add_jobs(world, 20)
    await pass_time(world, [one, two], MINUTE - SECOND)
    rest = await one.scheduler.tick()
    assert rest <= SECOND + TIMER_SLACK
    world.clock.advance(SECOND)
    await one.schedule()  # its own part
    world.clock.advance(OVERDUE - 10 * MILLISECOND)
    assert await one.scheduler.tick() <= 10 * MILLISECOND + TIMER_SLACK


async def test_a_scheduler_finds_its_due_jobs_behind_those_of_others(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    jobs = await add_jobs(world, 120)
    part = DueJobs().of_part(("process-1", "process-2"), "process-1")
    own = [job for job in jobs if part.includes(job.id)]
    await pass_time(world, [one, two], MINUTE - SECOND)
    stored = world.database.collection("jobs")
    earlier = world.clock.now() + SECOND - 10 * MILLISECOND
    others = [job.id for job in jobs if job not in own]
    change = {"next_run": earlier, "schedules.0.next_run": earlier}
    await stored.update_many({"_id": {"$in": others}}, {"$set": change})
    world.clock.advance(SECOND)
    await one.scheduler.tick()
    assert await count_statuses(world) == Counter(queued=len(own))


async def test_the_last_living_scheduler_fires_a_herd(world: World) -> None:
    one, *dead = (world.compose_process() for _ in range(4))
    await add_jobs(world, 2_000)
    await pass_time(world, [one, *dead], MINUTE - SECOND)
    world.clock.advance(SECOND)
    await one.schedule()
    world.clock.advance(OVERDUE)
    await one.schedule()
    assert await count_statuses(world) == Counter(queued=2_000)


async def test_a_job_of_a_dead_scheduler_does_not_wait_for_the_backlog_of_another_one(
    world: World,
) -> None:
    one, two = world.compose_process(), world.compose_process()
    for process in (one, two):
        await process.scheduler.tick()
    policy = CatchUpPolicy(policy=CatchUpMode.ALL)
    await add_jobs(world, 1_500, catch_up=policy, overlap_policy=OverlapPolicy.ALLOW_ALL)
    world.clock.advance(40 * MINUTE)
    for process in (one, two):
        await process.scheduler.tick()
    jobs = [await world.add_job(world.every(1)) for _ in range(20)]
    world.clock.advance(2 * SECOND)
    await one.scheduler.tick()
    assert all([await world.list_executions(job) for job in jobs])


def test_the_parts_of_all_schedulers_are_disjoint_and_complete() -> None:
    for count in (1, 2, 3, 5, 16, 40):
        names = [f"process-{n:02}" for n in range(count)]
        parts = [DueJobs().of_part(names, name).id_ends for name in names]
        if count == 1:
            assert parts == [None]
            continue
        sizes = Counter(end for part in set(parts) for end in part or ())
        assert len(sizes) == 256
        assert set(sizes.values()) == {1}
        assert max(len(part or ()) for part in parts) <= 256 // min(count, 16) + 1


def test_a_process_that_is_not_a_live_scheduler_has_no_part() -> None:
    assert DueJobs().of_part(("a", "b"), "c") == DueJobs()
    assert DueJobs().of_part(("a", "b"), None) == DueJobs()
