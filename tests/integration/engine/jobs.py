"""Many jobs at once, and what became of their slots."""

from collections import Counter
from typing import Any

from app.models.job import Job
from tests.support.engine import World


async def add_jobs(world: World, count: int, schedules: int = 1, **changes: Any) -> list[Job]:
    """Store copies of a job, each with ids of its own."""
    job = await world.add_job(*(world.every(60) for _ in range(schedules)), **changes)
    jobs = world.database.collection("jobs")
    document = await jobs.find_one({"_id": job.id})
    assert document is not None
    copies = [
        document
        | {
            "_id": world.new_id(),
            "schedules": [one | {"id": world.new_id()} for one in document["schedules"]],
        }
        for _ in range(count - 1)
    ]
    if copies:
        await jobs.insert_many(copies)
    ids = [job.id, *(copy["_id"] for copy in copies)]
    return list((await world.jobs.list_by_ids(ids)).jobs.values())


async def count_statuses(world: World) -> Counter[str]:
    found = world.database.collection("executions").find({}, {"status": True})
    return Counter([one["status"] for one in await found.to_list(None)])
