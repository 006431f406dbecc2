"""Response headers and bodies are kept for the newest executions of a job. All executions stay."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from pymongo import MongoClient

from app.engine import response_trimmer
from app.models.execution import (
    AttemptOutcome,
    Execution,
    ExecutionStatus,
    TargetResponse,
    Truncation,
)
from app.models.job import Job
from app.models.outcome import Outcome
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
from tests.integration.engine.responses import (
    HEADERS,
    MINUTE,
    execute,
    get_trimmer,
    has_body,
    respond,
    store_history,
    trim,
)
from tests.support.commands import CommandLog
from tests.support.engine import World
from tests.support.not_utf_8 import spoil


async def list_with_bodies(world: World, job: Job) -> list[str]:
    executions = await world.list_executions(job)
    return [e.id for e in executions if any(has_body(attempt.response) for attempt in e.attempts)]


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


async def test_an_execution_of_which_only_an_earlier_attempt_has_a_response_is_trimmed(
    world: World,
) -> None:
    """The trimmer looks at its job a minute later, before the next pass."""
    process = world.compose_process()
    await trim(world, get_trimmer(process), timedelta(0))
    retry = RetryPolicy(max_attempts=2, delay_seconds=1)
    job = await world.add_job(retry=retry)
    for _ in range(22):
        await world.queue(job)
    world.targets.outcome_of = lambda _: respond("a body", status=500)
    await process.work()
    world.clock.advance(timedelta(seconds=30))
    world.targets.outcome_of = lambda _: Outcome(AttemptOutcome.SUCCEEDED)
    await process.work()
    assert len(await list_with_bodies(world, job)) == 22
    await trim(world, get_trimmer(process))
    assert len(await list_with_bodies(world, job)) == 20


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


async def test_passes_begin_again_with_the_first_job(world: World) -> None:
    died, process = world.compose_process(), world.compose_process()
    jobs = [await world.add_job() for _ in range(2)]
    for _ in range(3):
        for job in jobs:
            await execute(world, died, job, 22)
        await trim(world, get_trimmer(process), 10 * MINUTE)
        assert [len(await list_with_bodies(world, job)) for job in jobs] == [20, 20]


async def test_jobs_that_wait_for_their_trim_are_not_forgotten_with_the_next_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_trimmer, "_JOBS", 1)
    process = world.compose_process()
    trimmer = get_trimmer(process)
    await trim(world, trimmer, timedelta(0))
    jobs = [await world.add_job() for _ in range(3)]
    for job in jobs:
        await execute(world, process, job, 22)
    world.clock.advance(MINUTE)
    await trimmer.tick()  # trims the first
    await execute(world, process, jobs[0], 1)
    await trim(world, trimmer)
    assert [len(await list_with_bodies(world, job)) for job in jobs] == [20] * 3


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
    bodies = [
        "é" * 6_000,
        "b" * 6_000,
        "é" * 6_000,
        "d" * 60_000,
        "e" * 60_000,
        "f" * 60_000,
        "g" * 60_000,
    ]

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
