"""Conditional writes of jobs."""

from datetime import timedelta

from tests.support.engine import World

MINUTE = timedelta(minutes=1)


async def test_a_pause_is_refused_until_the_due_slots_are_fired(world: World) -> None:
    """A slot may become due between the read of a job and the write of its edit."""
    job = await world.add_job(world.every(60))
    paused = job.model_copy(update={"active": False, "next_run": None})
    world.clock.advance(MINUTE)

    assert not await world.jobs.replace(paused, expected=job)
    await world.compose_process().schedule()
    fired = await world.jobs.get(job.id, owner_id=None)
    assert await world.jobs.replace(paused, expected=fired)


async def test_a_delete_is_refused_until_the_due_slots_are_fired(world: World) -> None:
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    assert not await world.jobs.delete(job)
    await world.compose_process().schedule()
    assert await world.jobs.delete(await world.jobs.get(job.id, owner_id=None))


async def test_an_edit_of_other_fields_is_possible_while_slots_are_due(world: World) -> None:
    job = await world.add_job(world.every(60))
    world.clock.advance(MINUTE)
    renamed = job.model_copy(update={"name": "another", "revision": 2})
    assert await world.jobs.replace(renamed, expected=job)


async def test_a_write_is_refused_if_the_job_was_edited_after_it_was_read(world: World) -> None:
    job = await world.add_job()
    renamed = job.model_copy(update={"name": "another", "revision": 2})
    assert await world.jobs.replace(renamed, expected=job)
    assert not await world.jobs.replace(renamed, expected=job)
    assert not await world.jobs.delete(job)
