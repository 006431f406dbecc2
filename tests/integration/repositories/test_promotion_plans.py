"""Reads of waiting executions cost the same, however many executions of a job wait."""

from datetime import timedelta
from typing import Any

import pytest

from app.models.execution import Execution
from app.repositories.documents import SCHEMA_VERSION
from tests.support.engine import World

JOBS = [f"job {n:02}" for n in range(20)]
Document = dict[str, Any]


async def add_waiting(world: World, count: int) -> None:
    """Let `count` executions of each job wait. Every other job has a live one."""
    job = await world.add_job()
    template = await world.queue(job)
    await world.executions.insert_many(
        [_wait(world, template, job_id, place) for job_id in JOBS for place in range(count)]
    )
    live = [
        template.model_copy(update={"id": world.new_id(), "job_id": job_id, "live_for": job_id})
        for job_id in JOBS[::2]
    ]
    await world.executions.insert_many(live)


def _wait(world: World, template: Execution, job_id: str, place: int) -> Execution:
    changes = {"id": world.new_id(), "job_id": job_id, "waiting": True, "place": place}
    slot = {"scheduled_for": template.scheduled_for + place * timedelta(minutes=1)}
    return template.model_copy(update=changes | slot)


async def set_profiling(world: World, level: int) -> None:
    await world.database.collection("executions").database.command({"profile": level})


async def count_examined(world: World) -> tuple[int, int]:
    """Return how many keys and documents the reads of the profile have examined."""
    profile = world.database.collection("system.profile").find({"ns": {"$regex": "executions"}})
    reads = [one for one in await profile.to_list(None) if "keysExamined" in one]
    assert reads
    return sum(one["keysExamined"] for one in reads), sum(one["docsExamined"] for one in reads)


@pytest.mark.parametrize("waiting", [2, 100])
async def test_a_round_reads_one_key_of_each_job_and_no_waiting_execution(
    world: World, waiting: int
) -> None:
    await add_waiting(world, waiting)
    await set_profiling(world, 2)
    stalled = await world.promotions.list_stalled_jobs(after=None)
    waiting_jobs = await world.promotions.list_waiting_jobs(JOBS)
    await set_profiling(world, 0)
    assert (stalled.job_ids, stalled.last) == (JOBS[1::2], None)
    assert waiting_jobs == set(JOBS)
    keys, documents = await count_examined(world)
    assert keys <= 4 * len(JOBS)
    assert documents == 0


@pytest.mark.parametrize("waiting", [2, 100])
async def test_a_promotion_reads_one_waiting_execution_of_each_job(
    world: World, waiting: int
) -> None:
    await add_waiting(world, waiting)
    await set_profiling(world, 2)
    assert await world.promotions.promote(JOBS) == set(JOBS[1::2])
    await set_profiling(world, 0)
    keys, documents = await count_examined(world)
    assert keys <= 5 * len(JOBS)
    assert documents <= 2 * len(JOBS)


@pytest.mark.parametrize("array", [False, True], ids=["", "with an array in place of a job"])
async def test_the_pages_of_all_jobs_contain_each_stalled_job_once(
    world: World, array: bool
) -> None:
    await add_waiting(world, 3)
    if array:
        executions = world.database.collection("executions")
        odd: Document = {"status": "queued", "waiting": True, "job_id": [JOBS[4], "x"]}
        await executions.insert_one(odd | {"_id": "odd", "place": 9})
    found: list[str] = []
    after, pages = None, 0
    while pages == 0 or after is not None:
        stalled = await world.promotions.list_stalled_jobs(after=after, limit=12)
        found += stalled.job_ids
        after, pages = stalled.last, pages + 1
        assert pages <= 2
    assert sorted(found) == JOBS[1::2]


async def test_a_waiting_execution_of_a_newer_release_does_not_hide_the_next_one(
    world: World,
) -> None:
    await add_waiting(world, 3)
    executions = world.database.collection("executions")
    await executions.update_many({"place": 0}, {"$set": {"schema": SCHEMA_VERSION + 1}})
    assert await world.promotions.promote(JOBS[:2]) == {JOBS[1]}
    live = await executions.find_one({"live_for": JOBS[1]})
    assert live is not None
    assert live["schema"] == SCHEMA_VERSION
    assert await executions.count_documents({"job_id": JOBS[1], "place": 1}) == 0
