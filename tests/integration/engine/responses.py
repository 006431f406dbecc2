"""Executions with responses, and the trims that remove these."""

from datetime import timedelta

from app.engine.response_trimmer import ResponseTrimmer
from app.models.execution import AttemptOutcome, Execution, TargetResponse
from app.models.job import Job
from app.models.outcome import Failure, Outcome
from tests.support.engine import Process, World

MINUTE = timedelta(minutes=1)
HEADERS = {"content-type": "text/plain"}


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


def has_body(response: TargetResponse | None) -> bool:
    return response is not None and response.body != ""


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


async def store_sizes(world: World, job: Job, size: int) -> None:
    """Store one execution whose responses count as so many bytes."""
    await store_history(world, job, 1)
    await world.database.collection("executions").update_one(
        {"_id": f"{job.id}-000000"}, {"$set": {"response_bytes": size}}
    )
