"""Cached responses of jobs that run: each run shows soon, and owners whose jobs rest cost
nothing."""

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from app.errors import InvalidInputError, UnavailableError
from app.models.execution import FINAL_STATUSES
from app.models.job import Job
from app.models.policy import RetryPolicy
from app.models.user import Actor, Role
from app.repositories.jobs import JobRepository
from app.runtime import Runtime
from app.schemas.jobs import JobQuery, JobUpdate
from tests.integration.engine.attempts import block_targets
from tests.support.engine import LEASE, OWNER_ID, Process, World

SECOND = timedelta(seconds=1)
LONGEST_AGE = 3 * SECOND
OWNER = Actor(user_id=OWNER_ID, username="owner", role=Role.EDITOR)
ADMIN = Actor(user_id="admin", username="admin", role=Role.ADMIN)
BOB = Actor(user_id="bob", username="bob", role=Role.EDITOR)

INSTANTS = ("next_run", "last_run")

State = tuple[Any, ...]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = Redis.from_url(redis_url)
    yield redis
    await redis.aclose()


def state_of(job: dict[str, Any]) -> State:
    """The fields that the service itself changes."""
    runs = [schedule["runs"] for schedule in job["schedules"]]
    next_run, last_run = [job[name] and datetime.fromisoformat(job[name]) for name in INSTANTS]
    return next_run, last_run, job["last_status"], runs


async def read_states(api: Runtime, job: Job) -> list[State]:
    """What the owner and an admin read, in the job and in the listing."""
    states = []
    for actor in (OWNER, ADMIN):
        one = json.loads((await api.cached_jobs.get_job(actor, job.id)).content)
        page = json.loads((await api.cached_jobs.list_jobs(actor, JobQuery())).content)
        states.append(state_of(one))
        states += [state_of(item) for item in page["items"] if item["id"] == job.id]
    return states


async def read_stored_state(api: Runtime, job: Job) -> State:
    body = api.cached_jobs.make_body(await api.jobs.get(ADMIN, job.id))
    return state_of(json.loads(body.content))


async def read_true_state(api: Runtime, world: World, job: Job) -> State:
    """As `read_stored_state`, with the last run of the newest finished execution."""
    next_run, _, _, runs = await read_stored_state(api, job)
    finished = [e for e in await world.list_executions(job) if e.status in FINAL_STATUSES]
    if not finished:
        return next_run, None, None, runs
    return next_run, finished[-1].scheduled_for, finished[-1].status.value, runs


async def run_attempts(process: Process) -> None:
    """One round of the worker, and its attempts. It does not store the last runs, as a drain
    does."""
    await process.worker.tick()
    while process.worker._tasks:
        await asyncio.wait(process.worker._tasks)
    await process.worker._recorder.finish()


async def tick_once(process: Process, order: random.Random) -> None:
    """The rounds of a second, in any order: the loops do not wait for each other."""
    work = partial(run_attempts, process)
    rounds: list[Callable[[], Awaitable[object]]] = [
        process.schedule,
        work,
        process.worker.watch,
        process.invalidator.tick,
    ]
    for one in order.sample(rounds, len(rounds)):
        await one()


@pytest.mark.parametrize("seed", range(5))
async def test_answers_about_a_running_job_are_at_most_three_seconds_old_in_every_process(
    world: World, redis: Redis, seed: int
) -> None:
    order = random.Random(seed)
    job = await world.add_job(world.every(2))
    readers = [world.compose_api(redis) for _ in range(2)]
    processes = [world.compose_process(redis=redis) for _ in range(2)]
    true: deque[State] = deque(maxlen=LONGEST_AGE // SECOND + 1)
    for _ in range(12):
        world.clock.advance(SECOND)
        for process in order.sample(processes, len(processes)):
            await tick_once(process, order)
        true.append(await read_true_state(readers[0], world, job))
        for reader in readers:
            for seen in await read_states(reader, job):
                for field, values in zip(seen, zip(*true, strict=True), strict=True):
                    assert field in values
    assert true[-1][2:] == ("succeeded", [6])


class ReadCounter:
    """Counts the reads of the API that reach the database."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        get = JobRepository.get

        async def count(repository: JobRepository, *args: Any, **options: Any) -> Any:
            self.count += 1
            return await get(repository, *args, **options)

        monkeypatch.setattr(JobRepository, "get", count)


async def test_owners_whose_jobs_rest_are_answered_from_the_cache_while_others_run(
    world: World, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add_job(world.every(1))
    resting = await world.add_job(world.every(3600), owner_id="bob")
    process, api = world.compose_process(redis=redis), world.compose_api(redis)
    reads = ReadCounter(monkeypatch)
    for _ in range(10):
        world.clock.advance(SECOND)
        await tick_once(process, random.Random(0))
        await api.cached_jobs.get_job(BOB, resting.id)
    assert reads.count == 1


async def test_a_redis_that_other_processes_do_not_use_caches_nothing(
    world: World, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await world.add_job()
    api = world.compose_api(redis, redis_is_shared=False)
    reads = ReadCounter(monkeypatch)
    for _ in range(3):
        await api.cached_jobs.get_job(OWNER, job.id)
    assert reads.count == 3


async def test_without_moved_jobs_the_loops_do_not_call_redis(world: World, redis: Redis) -> None:
    await world.add_job(world.every(3600))
    process = world.compose_process(redis=redis)
    await tick_once(process, random.Random(0))
    before = (await redis.info("stats"))["total_commands_processed"]
    for _ in range(5):
        world.clock.advance(SECOND)
        await tick_once(process, random.Random(0))
        await process.reaper.tick()
    assert (await redis.info("stats"))["total_commands_processed"] == before + 1


async def test_an_execution_that_the_reaper_settles_shows_after_the_next_drop(
    world: World, redis: Redis
) -> None:
    job = await world.add_job(retry=RetryPolicy(max_attempts=1))
    await world.queue(job)
    dead, alive = world.compose_process(), world.compose_process(redis=redis)
    api = world.compose_api(redis)
    target = block_targets(world)
    await dead.worker.tick()
    await target.began.wait()
    await read_states(api, job)
    world.clock.advance(LEASE)
    await alive.reaper.tick()
    await alive.invalidator.tick()
    assert [state[2] for state in await read_states(api, job)] == ["failed"] * 4
    target.may_end.set()
    await dead.finish_attempts()


async def test_a_lost_response_of_the_database_still_drops_what_it_may_have_changed(
    world: World, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await world.add_job(world.every(1))
    process, api = world.compose_process(redis=redis), world.compose_api(redis)
    advance = JobRepository.advance

    async def lose_the_response(self: JobRepository, advances: Any) -> int:
        await advance(self, advances)
        raise UnavailableError("The database does not respond.")

    world.clock.advance(SECOND)
    await read_states(api, job)
    with monkeypatch.context() as patch:
        patch.setattr(JobRepository, "advance", lose_the_response)
        with pytest.raises(UnavailableError):
            await process.schedule()
    await process.invalidator.tick()
    assert await read_states(api, job) == [await read_stored_state(api, job)] * 4


async def test_a_last_run_with_a_lost_response_is_dropped_too(
    world: World, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await world.add_job()
    await world.queue(job)
    process, api = world.compose_process(redis=redis), world.compose_api(redis)
    note = JobRepository.note_last_runs

    async def lose_the_response(self: JobRepository, last_runs: Any) -> None:
        await note(self, last_runs)
        raise UnavailableError("The database does not respond.")

    await run_attempts(process)
    await read_states(api, job)
    with monkeypatch.context() as patch:
        patch.setattr(JobRepository, "note_last_runs", lose_the_response)
        with pytest.raises(UnavailableError):
            await process.worker.watch()
    await process.invalidator.tick()
    assert await read_states(api, job) == [await read_stored_state(api, job)] * 4


async def test_the_slots_that_a_refused_edit_has_fired_show_at_once_in_a_process_without_loops(
    world: World, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await world.add_job(world.every(1))
    api = world.compose_api(redis)
    world.clock.advance(SECOND)
    await read_states(api, job)

    async def refuse(*_: Any, **__: Any) -> Job:
        raise InvalidInputError("refused after the firing")

    monkeypatch.setattr(api.jobs, "_start_after_decided", refuse)
    edit = JobUpdate.model_validate({"active": False})
    with pytest.raises(InvalidInputError):
        await api.jobs.edit(OWNER, job.id, edit)
    stored = await read_stored_state(api, job)
    assert stored[3] == [1]
    assert await read_states(api, job) == [stored] * 4


async def test_a_cancelled_execution_shows_at_once_in_a_process_without_loops(
    world: World, redis: Redis
) -> None:
    job = await world.add_job()
    queued = await world.queue(job)
    api = world.compose_api(redis)
    await read_states(api, job)
    await api.executions.cancel(OWNER, queued.id)
    states = await read_states(api, job)
    assert [state[2] for state in states] == ["cancelled"] * 4


async def test_a_process_that_stops_drops_what_its_last_attempts_have_changed(
    world: World, redis: Redis
) -> None:
    job = await world.add_job()
    await world.queue(job)
    process, api = world.compose_process(redis=redis), world.compose_api(redis)
    target = block_targets(world)
    await process.worker.tick()
    await target.began.wait()
    await read_states(api, job)
    target.may_end.set()
    await process.runtime.engine.stop(timedelta(seconds=5))
    states = await read_states(api, job)
    assert [state[2] for state in states] == ["succeeded"] * 4
