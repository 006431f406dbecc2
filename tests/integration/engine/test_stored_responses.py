"""Response headers and bodies are kept for the newest executions of a job, up to a limit per owner.
The executions themselves stay."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from pymongo import MongoClient

from app.engine.response_trimmer import ResponseTrimmer
from app.models.execution import (
    AttemptOutcome,
    Execution,
    ExecutionStatus,
    TargetResponse,
    Truncation,
)
from app.models.job import Job
from app.models.outcome import Failure, Outcome
from app.models.policy import RetryPolicy
from app.policies.retention import FAILURES
from app.repositories import settlements, stored_responses
from app.repositories.stored_responses import (
    StoredResponseRepository,
    build_job_page,
    build_sum,
    build_surplus_query,
)
from app.targets.target import Delivery
from tests.support.commands import CommandLog
from tests.support.engine import Process, World
from tests.support.not_utf_8 import spoil

MINUTE = timedelta(minutes=1)
HEADERS = {"content-type": "text/plain"}
MEGABYTE = 1_000_000


def respond(body: str, *, status: int = 200) -> Outcome:
    response = TargetResponse(status=status, headers=HEADERS, body=body)
    if status == 200:
        return Outcome(AttemptOutcome.SUCCEEDED, response=response)
    return Outcome(AttemptOutcome.FAILED, Failure.STATUS, "an error", response)


async def execute(
    world: World, process: Process, job: Job, count: int, *, body: str = "a body", status: int = 200
) -> list[Execution]:
    """Execute the job so many times, one after the other."""
    world.targets.outcome_of = lambda _: respond(body, status=status)
    executions = []
    for _ in range(count):
        world.clock.advance(timedelta(milliseconds=1))
        executions.append(await world.queue(job))
        await process.work()
    return executions


async def trim(world: World, trimmer: ResponseTrimmer | None, after: timedelta = MINUTE) -> None:
    """Let the time pass, and do what is due."""
    assert trimmer is not None
    world.clock.advance(after)
    while await trimmer.tick() < timedelta(seconds=1):
        pass


def get_trimmer(process: Process) -> ResponseTrimmer:
    trimmer = process.runtime.engine.response_trimmer
    assert trimmer is not None
    return trimmer


async def list_with_bodies(world: World, job: Job) -> list[str]:
    executions = await world.list_executions(job)
    return [e.id for e in executions if any(has_body(attempt.response) for attempt in e.attempts)]


def has_body(response: TargetResponse | None) -> bool:
    return response is not None and response.body != ""


def ids(executions: list[Execution]) -> list[str]:
    return [execution.id for execution in executions]


async def read_stored(world: World, execution: Execution) -> dict[str, Any]:
    stored = await world.database.collection("executions").find_one({"_id": execution.id})
    assert stored is not None
    return stored


async def test_a_body_is_measured_once_for_each_result(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    count_bytes = settlements._count_bytes

    def note(text: str) -> int:
        measured.append(text)
        return count_bytes(text)

    monkeypatch.setattr(settlements, "_count_bytes", note)
    bodies = [f"body {number}" for number in range(3)]
    for body in bodies:
        await execute(world, world.compose_process(), await world.add_job(), 1, body=body)
    assert [text for text in measured if text in bodies] == bodies


async def test_responses_of_the_newest_executions_and_failures_are_kept(world: World) -> None:
    process = world.compose_process()
    job, other = await world.add_job(), await world.add_job()
    no_retry = RetryPolicy(max_attempts=1)
    failing = await world.add_job(retry=no_retry)
    failures = await execute(world, process, failing, 25, status=500)
    successes = await execute(world, process, failing, 30)
    of_job = await execute(world, process, job, 25)
    of_other = await execute(world, process, other, 3)

    await trim(world, get_trimmer(process))

    assert await list_with_bodies(world, job) == ids(of_job[5:])
    assert await list_with_bodies(world, failing) == ids(failures[5:] + successes[10:])
    assert await list_with_bodies(world, other) == ids(of_other)
    assert len(await world.list_executions(failing)) == 55
    oldest = await world.read(of_job[0])
    assert oldest.status is ExecutionStatus.SUCCEEDED
    assert oldest.attempts[0].response == TargetResponse(
        status=200, truncated=True, truncated_reason=Truncation.OLDER_EXECUTION
    )
    kept = await world.read(of_job[-1])
    assert kept.attempts[0].response == TargetResponse(status=200, headers=HEADERS, body="a body")


async def test_jobs_are_trimmed_once_a_minute_and_only_if_an_execution_has_finished(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    trimmer = get_trimmer(process)
    await trim(world, trimmer, timedelta(0))  # the first pass
    job = await world.add_job()
    looks: list[list[str]] = []
    list_surplus = StoredResponseRepository.list_surplus

    async def look(self: StoredResponseRepository, job_ids: list[str], **named: Any) -> list[str]:
        looks.append(list(job_ids))
        return await list_surplus(self, job_ids, **named)

    monkeypatch.setattr(StoredResponseRepository, "list_surplus", look)
    await execute(world, process, job, 2)
    await trim(world, trimmer, timedelta(seconds=10))
    assert looks == []
    await trim(world, trimmer)
    await trim(world, trimmer)
    assert looks == [[job.id]]


async def test_a_pass_trims_the_jobs_of_a_process_that_died(world: World) -> None:
    died, process = world.compose_process(), world.compose_process()
    await trim(world, get_trimmer(process), timedelta(0))
    deleted, job = await world.add_job(), await world.add_job()
    newest = [await execute(world, died, one, 22) for one in (deleted, job)]
    assert await world.jobs.delete(deleted)

    await trim(world, get_trimmer(process))
    assert len(await list_with_bodies(world, job)) == 22
    await trim(world, get_trimmer(process), 10 * MINUTE)
    for one, executions in zip((deleted, job), newest, strict=True):
        assert await list_with_bodies(world, one) == ids(executions[2:])


async def test_a_pass_ends_if_a_job_id_is_not_utf_8(
    world: World, mongo_client: MongoClient[dict[str, Any]], database_name: str
) -> None:
    await store_history(world, await world.add_job(), 1)
    executions = mongo_client[database_name]["executions"]
    [stored] = executions.find({})
    executions.insert_one(spoil(stored | {"_id": "another", "job_id": "xyxyxy"}))
    trimmer = get_trimmer(world.compose_process())

    ticks = 1
    while await trimmer.tick() < MINUTE:
        ticks += 1
        assert ticks < 10


async def test_several_trimmers_keep_the_same_responses(world: World) -> None:
    processes = [world.compose_process() for _ in range(3)]
    job = await world.add_job()
    executions: list[Execution] = []
    for _ in range(8):
        for process in processes:
            executions += await execute(world, process, job, 2)
        for process in processes:
            await trim(world, get_trimmer(process))
        assert await list_with_bodies(world, job) == ids(executions[-20:])


async def test_an_execution_that_another_attempt_follows_keeps_its_responses(world: World) -> None:
    process = world.compose_process()
    job = await world.add_job(retry=RetryPolicy(max_attempts=2, delay_seconds=3_600))
    (waits,) = await execute(world, process, job, 1, status=500)
    await execute(world, process, job, 25)
    await trim(world, get_trimmer(process))
    assert (await list_with_bodies(world, job))[0] == waits.id


async def store_history(world: World, job: Job, count: int) -> None:
    """Store finished executions with responses, the oldest first."""
    now = world.clock.now()
    response = {"status": 200, "headers": [], "body": "a body", "truncated": False}
    attempt = {"number": 1, "job_revision": 1, "started_at": now, "outcome": "succeeded"}
    documents = [
        {
            "_id": f"{job.id}-{n:06}",
            "job_id": job.id,
            "owner_id": job.owner_id,
            "kind": "manual",
            "scheduled_for": now,
            "run_at": now,
            "status": "succeeded",
            "created_at": now,
            "finished_at": now + timedelta(milliseconds=n),
            "lease_token": 1,
            "attempts": [attempt | {"response": response}],
            "response_bytes": 100,
            "schema": 4,
        }
        for n in range(count)
    ]
    await world.database.collection("executions").insert_many(documents)


async def count_stored(world: World, job: Job) -> int:
    stored = {"job_id": job.id, "response_bytes": {"$gt": 0}}
    return int(await world.database.collection("executions").count_documents(stored))


async def test_a_large_history_is_trimmed_in_bounded_parts(
    counted: World, commands: CommandLog
) -> None:
    job = await counted.add_job()
    await store_history(counted, job, 2_000)
    trimmer = get_trimmer(counted.compose_process())
    await trimmer.tick()  # finds the job
    remaining = [await count_stored(counted, job)]
    while remaining[-1] > 20:
        commands.clear()
        await trimmer.tick()
        assert commands.count() <= 4  # one read, two writes, and no look at the other executions
        remaining.append(await count_stored(counted, job))
    steps = [before - after for before, after in pairwise(remaining)]
    assert max(steps) == 520
    assert sum(steps) == 1_980


async def test_a_look_examines_index_keys_only_and_few_for_each_job(world: World) -> None:
    jobs = [await world.add_job() for _ in range(3)]
    for job in jobs:
        await store_history(world, job, 700)
    job_ids = [job.id for job in jobs]
    responses = StoredResponseRepository(world.database)
    surplus = await responses.list_surplus(job_ids, keep=20, failures=FAILURES)
    assert len(surplus) == 3 * 520
    look_up = await explain_look(world, job_ids)
    assert look_up["indexesUsed"] == ["responses_by_job"]
    assert look_up["totalKeysExamined"] <= 3 * 545
    assert look_up["totalDocsExamined"] == 0


@pytest.mark.parametrize(
    ("pipeline", "index", "most_keys"),
    [
        (build_sum(["owner"]), "responses_by_owner", 2_102),
        (build_job_page({"$gt": "0"}), "responses_by_job", 2_000),
    ],
    ids=["the size of an owner", "a page of the walk"],
)
async def test_sizes_and_pages_are_read_from_index_keys_only(
    world: World, pipeline: list[dict[str, Any]], index: str, most_keys: int
) -> None:
    for job in [await world.add_job() for _ in range(3)]:
        await store_history(world, job, 700)
    await world.database.collection("executions").update_many(
        {}, {"$set": {"response_bytes": 2_147_483_648}}
    )
    for _ in range(20):
        await world.queue(await world.add_job())  # these have no responses
    command = {"aggregate": "executions", "pipeline": pipeline, "cursor": {}, "hint": index}
    database = world.database.collection("executions").database
    plan = await database.command({"explain": command, "verbosity": "executionStats"})
    statistics = plan["stages"][0]["$cursor"] if "stages" in plan else plan
    assert statistics["executionStats"]["totalDocsExamined"] == 0
    assert statistics["executionStats"]["totalKeysExamined"] <= most_keys
    sizes = await StoredResponseRepository(world.database).sum_bytes(["owner"])
    assert sizes == {"owner": 2_100 * 2_147_483_648}


async def explain_look(world: World, job_ids: list[str]) -> dict[str, Any]:
    """Execute the look and return the statistics of its look-up stage."""
    pipeline = build_surplus_query(job_ids, keep=20, failures=FAILURES)
    command = {"aggregate": 1, "pipeline": pipeline, "cursor": {}}
    database = world.database.collection("executions").database
    plan = await database.command({"explain": command, "verbosity": "executionStats"})
    return next(stage for stage in plan["stages"] if "$lookup" in stage)


async def test_a_response_that_cannot_be_removed_harms_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await world.add_job()
    await store_history(world, job, 25)
    is_odd = {"$eq": ["$_id", f"{job.id}-000002"]}
    fails = {"$cond": [is_odd, {"$divide": [1, 0]}, []]}
    monkeypatch.setattr(stored_responses, "drop_responses", lambda _: fails)
    await trim(world, get_trimmer(world.compose_process()))
    assert await count_stored(world, job) == 20


async def test_a_response_of_a_newer_release_is_left_alone(world: World) -> None:
    job = await world.add_job()
    await store_history(world, job, 25)
    executions = world.database.collection("executions")
    await executions.update_many({}, {"$set": {"schema": 99}})
    await trim(world, get_trimmer(world.compose_process()))
    assert await count_stored(world, job) == 25


async def test_of_an_execution_the_last_three_responses_are_whole(world: World) -> None:
    process = world.compose_process()
    retry = RetryPolicy(max_attempts=7, delay_seconds=1)
    job = await world.add_job(retry=retry)
    bodies = ["é" * 6_000, "b" * 6_000, "é" * 6_000, "d", "e" * 60_000, "f" * 60_000, "g" * 60_000]

    def fail(delivery: Delivery) -> Outcome:
        return respond(bodies[delivery.attempt - 1], status=500)

    world.targets.outcome_of = fail
    execution = await world.queue(job)
    for _ in range(7):
        await process.work()
        world.clock.advance(timedelta(minutes=1))
    responses = [a.response for a in (await world.read(execution)).attempts if a.response]
    kept = ["é" * 6_000, "b" * 4_384, "", "", *bodies[4:]]
    assert [response.body for response in responses] == kept
    assert sum(len(response.body.encode()) for response in responses[:4]) == 16_384
    assert [response.headers == HEADERS for response in responses] == [False] * 4 + [True] * 3
    assert {response.truncated_reason for response in responses[:4]} == {Truncation.EARLIER_ATTEMPT}
    assert not any(response.truncated for response in responses[4:])
    stored = await read_stored(world, execution)
    assert 180_000 + 16_384 < stored["response_bytes"] < 180_000 + 16_384 + 1_500


async def test_the_size_of_stored_responses_is_that_of_the_database(world: World) -> None:
    process = world.compose_process()
    job, other = await world.add_job(), await world.add_job(owner_id="another owner")
    (one, *_) = await execute(world, process, job, 3, body="x" * 1_000)
    await execute(world, process, other, 1, body="x" * 500)
    (without,) = await execute(world, process, job, 1, body="")
    world.targets.outcome_of = lambda _: Outcome(AttemptOutcome.SUCCEEDED)
    empty = await world.queue(job)
    await process.work()
    assert "response_bytes" not in await read_stored(world, empty)
    sizes = await StoredResponseRepository(world.database).sum_bytes(
        ["owner", "another owner", "x"]
    )
    size = (await read_stored(world, one))["response_bytes"]
    assert 1_000 < size < 1_200
    header_size = (await read_stored(world, without))["response_bytes"]
    assert sizes == {"owner": 3 * size + header_size, "another owner": size - 500, "x": 0}


async def test_beyond_the_limit_executions_are_stored_without_their_responses(world: World) -> None:
    process = world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE)
    limit = process.runtime.engine.history_limit
    assert limit is not None
    job = await world.add_job(retry=RetryPolicy(max_attempts=1))
    await store_sizes(world, job, 9_990_000)
    other = await world.add_job(owner_id="another owner")
    (first,) = await execute(world, process, job, 1, body="x" * 60_000)
    await limit.tick()
    (second,) = await execute(world, process, job, 1, body="x" * 60_000, status=500)
    (of_other,) = await execute(world, process, other, 1, body="x" * 60_000)
    assert has_body((await world.read(first)).attempts[0].response)
    read = await world.read(second)
    assert read.status is ExecutionStatus.FAILED
    assert read.attempts[0].response == TargetResponse(
        status=500, truncated=True, truncated_reason=Truncation.HISTORY_LIMIT
    )
    assert has_body((await world.read(of_other)).attempts[0].response)


async def store_sizes(world: World, job: Job, size: int) -> None:
    """Store one execution whose responses count as so many bytes."""
    await store_history(world, job, 1)
    await world.database.collection("executions").update_one(
        {"_id": f"{job.id}-000000"}, {"$set": {"response_bytes": size}}
    )


async def test_responses_are_stored_again_after_others_were_removed(world: World) -> None:
    process = world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE)
    limit = process.runtime.engine.history_limit
    assert limit is not None
    job = await world.add_job()
    await store_sizes(world, job, 10 * MEGABYTE)
    await execute(world, process, job, 1)
    await limit.tick()
    (refused,) = await execute(world, process, job, 1)
    await world.database.collection("executions").delete_one({"_id": f"{job.id}-000000"})
    world.clock.advance(timedelta(seconds=31))
    await limit.tick()
    (stored,) = await execute(world, process, job, 1)
    assert not has_body((await world.read(refused)).attempts[0].response)
    assert has_body((await world.read(stored)).attempts[0].response)


async def test_several_processes_exceed_the_limit_by_a_64th_each(world: World) -> None:
    """Also with trims in between, and if no process reads the size of what the others store."""
    limit, share = 10 * MEGABYTE, 10 * MEGABYTE // 64
    processes = [
        world.compose_process(max_history_bytes_per_owner=limit, concurrency=10) for _ in range(3)
    ]
    jobs = [await world.add_job() for _ in range(6)]
    world.targets.outcome_of = lambda _: respond("x" * 20_000)
    responses = StoredResponseRepository(world.database)
    most = 0
    for round_number in range(60):
        for job in jobs * 3:
            await world.queue(job)
        world.clock.advance(timedelta(seconds=2))
        for process in processes:
            history_limit = process.runtime.engine.history_limit
            assert history_limit is not None
            if history_limit.wake.is_set() or round_number % 15 == 0:
                history_limit.wake.clear()
                await history_limit.tick()
            await process.worker.tick()
        for process in processes:
            await process.finish_attempts()
        most = max(most, (await responses.sum_bytes(["owner"]))["owner"])
        if round_number % 45 == 44:
            for process in processes:
                await trim(world, get_trimmer(process))
    assert most > limit * 0.9
    assert most <= limit + len(processes) * share
    assert (await responses.sum_bytes(["owner"]))["owner"] < limit
    documents = world.database.collection("executions")
    assert await documents.count_documents({"status": "succeeded"}) == 60 * 18


async def test_a_result_that_is_recorded_again_counts_once(world: World) -> None:
    process = world.compose_process(max_history_bytes_per_owner=10 * MEGABYTE)
    limit = process.runtime.engine.history_limit
    assert limit is not None
    for _ in range(20):
        assert limit.take("owner", 600_000)
        limit.give_back("owner", 600_000)
    assert limit.take("owner", 600_000)
    assert not limit.take("owner", 600_000)
