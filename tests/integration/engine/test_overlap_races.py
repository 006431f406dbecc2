"""Overlap policies of many executions at once, while other processes write in between."""

import asyncio

import pytest

from app.models.execution import ExecutionKind, Reason
from app.models.policy import OverlapPolicy
from app.repositories.executions import InsertResult
from tests.integration.engine.overlaps import (
    ASKED,
    FULL,
    MINUTE,
    POLICIES,
    QUEUED,
    REPLACED,
    RUNNING,
    SKIPPED,
    TERMINATED,
    WAITING,
    act_before,
    add_live,
    end_live,
    list_records,
    make_overlapping,
    make_slot,
    name_jobs,
    run,
)
from tests.support.engine import World


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_slot_that_another_process_records_in_between_is_returned(
    world: World, monkeypatch: pytest.MonkeyPatch, policy: OverlapPolicy
) -> None:
    jobs = name_jobs(3)
    await add_live(world, jobs)
    batch = [make_overlapping(world, job, 1, policy) for job in jobs]
    recorded = batch[1].execution.model_copy(update={"id": world.new_id()})
    recorded = recorded.skip(Reason.OVERLAP, world.clock.now())
    act_before(
        monkeypatch, world.executions, "insert_many", lambda: world.executions.insert(recorded)
    )
    records = await world.admission.apply_policies(batch, world.clock.now())

    first, second, third = batch
    assert records[second.execution.id].id == recorded.id
    assert await list_records(world, jobs[0]) == await list_records(world, jobs[2])
    assert records[first.execution.id].id == first.execution.id
    assert records[third.execution.id].id == third.execution.id


@pytest.mark.parametrize(
    "policy",
    [OverlapPolicy.BUFFER_ONE, OverlapPolicy.BUFFER_ALL, OverlapPolicy.CANCEL_OTHER],
)
async def test_a_slot_is_promoted_if_the_live_execution_ends_in_between(
    world: World, monkeypatch: pytest.MonkeyPatch, policy: OverlapPolicy
) -> None:
    jobs = name_jobs(3)
    await add_live(world, jobs)
    batch = [make_overlapping(world, job, 1, policy) for job in jobs]
    act_before(monkeypatch, world.executions, "insert_many", lambda: end_live(world, jobs[1]))
    await world.admission.apply_policies(batch, world.clock.now())

    assert [(await world.read(one.execution)).live_for for one in batch] == [None, jobs[1], None]


async def test_a_job_whose_position_is_taken_in_between_gets_another_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = name_jobs(3)
    await add_live(world, jobs)
    policy = OverlapPolicy.BUFFER_ALL
    batch = [make_overlapping(world, job, minute, policy) for job in jobs for minute in (1, 2)]
    other = make_slot(world, jobs[1], 9).wait_at(0)
    act_before(monkeypatch, world.executions, "insert_many", lambda: world.executions.insert(other))
    records = await world.admission.apply_policies(batch, world.clock.now())

    assert all(record.waiting for record in records.values())
    for job in jobs:
        assert (await list_records(world, job))[:3] == [RUNNING, WAITING, WAITING]


async def test_buffer_one_skips_the_slot_whose_position_is_taken_in_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = name_jobs(2)
    await add_live(world, jobs)
    batch = [make_overlapping(world, job, 1, OverlapPolicy.BUFFER_ONE) for job in jobs]
    other = make_slot(world, jobs[1], 9).wait_at(0)
    act_before(monkeypatch, world.executions, "insert_many", lambda: world.executions.insert(other))
    await world.admission.apply_policies(batch, world.clock.now())

    assert await list_records(world, jobs[0]) == [RUNNING, WAITING]
    assert await list_records(world, jobs[1]) == [RUNNING, FULL, WAITING]


async def test_a_slot_takes_the_position_of_one_that_another_process_records(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_live(world, ["a job"])
    policy = OverlapPolicy.BUFFER_ONE
    first, second = (make_overlapping(world, "a job", minute, policy) for minute in (1, 2))
    recorded = first.execution.model_copy(update={"id": world.new_id()})
    recorded = recorded.skip(Reason.OVERLAP, world.clock.now())
    act_before(
        monkeypatch, world.executions, "insert_many", lambda: world.executions.insert(recorded)
    )
    await world.admission.apply_policies([first, second], world.clock.now())

    assert await list_records(world, "a job") == [RUNNING, SKIPPED, WAITING]


async def test_as_many_requests_as_free_positions_all_wait(world: World) -> None:
    """They read the same free positions at the same time, and compete for them."""
    await add_live(world, ["a job"])
    batch = [make_overlapping(world, "a job", 1 + n, OverlapPolicy.BUFFER_ALL) for n in range(60)]
    await asyncio.gather(
        *(world.admission.apply_policies([one], world.clock.now()) for one in batch)
    )
    assert await list_records(world, "a job") == [RUNNING] + [WAITING] * 60


async def test_terminate_other_ends_the_execution_that_becomes_live_in_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = name_jobs(3)
    await add_live(world, jobs)
    batch = [make_overlapping(world, job, 1, OverlapPolicy.TERMINATE_OTHER) for job in jobs]
    other = make_slot(world, jobs[1], -1)
    act_before(monkeypatch, world.executions, "insert_many", lambda: world.executions.insert(other))
    await world.admission.apply_policies(batch, world.clock.now())

    assert (await world.read(other)).reason == Reason.TERMINATED_BY_OVERLAP
    for one in batch:
        assert (await world.read(one.execution)).live_for == one.execution.job_id


@pytest.mark.parametrize("policy", [OverlapPolicy.CANCEL_OTHER, OverlapPolicy.TERMINATE_OTHER])
async def test_an_execution_of_the_same_slot_is_not_ended(
    world: World, monkeypatch: pytest.MonkeyPatch, policy: OverlapPolicy
) -> None:
    """Another process makes the slot live between the read and the write."""
    await add_live(world, ["a job"])
    one = make_overlapping(world, "a job", 1, policy)
    same_slot = one.execution.model_copy(update={"id": world.new_id()})

    async def record() -> None:
        await end_live(world, "a job")
        await world.executions.insert(run(world, same_slot))

    act_before(monkeypatch, world.overlaps, "_list_other_live", record)
    records = await world.admission.apply_policies([one], world.clock.now())

    assert records[one.execution.id].id == same_slot.id
    assert await list_records(world, "a job") == [("succeeded", None, False), RUNNING]


async def test_a_repeated_request_does_not_end_its_own_execution(world: World) -> None:
    job = await world.add_job()
    live = await world.queue(job, live_for=job.id)
    await world.overlaps.terminate_live([live])
    assert await world.overlaps.cancel_live([live]) == set()
    assert await world.read(live) == live


@pytest.mark.parametrize("policy", [OverlapPolicy.CANCEL_OTHER, OverlapPolicy.TERMINATE_OTHER])
async def test_a_slow_process_does_not_end_the_execution_of_a_later_slot(
    world: World, monkeypatch: pytest.MonkeyPatch, policy: OverlapPolicy
) -> None:
    """Another process records the same slot and the next one between the read and the write."""
    await add_live(world, ["a job"])
    old, later = (make_overlapping(world, "a job", minute, policy) for minute in (1, 2))

    async def record_both() -> None:
        await end_live(world, "a job")
        done = old.execution.model_copy(update={"id": world.new_id()})
        await world.executions.insert(done.skip(Reason.OVERLAP, world.clock.now()))
        await world.executions.insert(run(world, later.execution))

    act_before(monkeypatch, world.overlaps, "_list_other_live", record_both)
    await world.admission.apply_policies([old], world.clock.now())

    assert await list_records(world, "a job") == [("succeeded", None, False), SKIPPED, RUNNING]


@pytest.mark.parametrize("kind", [ExecutionKind.SCHEDULED, ExecutionKind.MANUAL])
@pytest.mark.parametrize("policy", [OverlapPolicy.CANCEL_OTHER, OverlapPolicy.TERMINATE_OTHER])
async def test_a_slow_process_does_not_end_a_newer_execution_of_another_schedule_or_kind(
    world: World, monkeypatch: pytest.MonkeyPatch, policy: OverlapPolicy, kind: ExecutionKind
) -> None:
    await add_live(world, ["a job"])
    old, later = (make_overlapping(world, "a job", minute, policy) for minute in (1, 2))
    changes = {"schedule_id": None if kind is ExecutionKind.MANUAL else "another", "kind": kind}
    other = later.execution.model_copy(update=changes)

    async def replace_live() -> None:
        await end_live(world, "a job")
        await world.executions.insert(run(world, other))

    act_before(monkeypatch, world.overlaps, "_list_other_live", replace_live)
    await world.admission.apply_policies([old], world.clock.now())

    record = SKIPPED if policy is OverlapPolicy.TERMINATE_OTHER else WAITING
    assert await list_records(world, "a job") == [("succeeded", None, False), record, RUNNING]


@pytest.mark.parametrize("policy", [OverlapPolicy.CANCEL_OTHER, OverlapPolicy.TERMINATE_OTHER])
async def test_a_slot_that_has_a_record_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, policy: OverlapPolicy
) -> None:
    """Another process records the slot, and a backfill of an earlier slot becomes live."""
    await add_live(world, ["a job"])
    one = make_overlapping(world, "a job", 1, policy)
    backfill = make_slot(world, "a job", -5)
    backfill = backfill.model_copy(
        update={"kind": ExecutionKind.BACKFILL, "backfill_id": world.new_id()}
    )

    async def record() -> None:
        await end_live(world, "a job")
        done = one.execution.model_copy(update={"id": world.new_id()})
        await world.executions.insert(done.skip(Reason.OVERLAP, world.clock.now()))
        await world.executions.insert(run(world, backfill))

    act_before(monkeypatch, world.overlaps, "_list_other_live", record)
    await world.admission.apply_policies([one], world.clock.now())

    assert await list_records(world, "a job") == [RUNNING, ("succeeded", None, False), SKIPPED]


@pytest.mark.parametrize("policy", [OverlapPolicy.CANCEL_OTHER, OverlapPolicy.TERMINATE_OTHER])
async def test_slots_of_a_batch_behind_a_newer_live_execution_are_not_ended_by_each_other(
    world: World, policy: OverlapPolicy
) -> None:
    manual = make_slot(world, "a job", 9).model_copy(
        update={"kind": ExecutionKind.MANUAL, "schedule_id": None}
    )
    await world.executions.insert(run(world, manual))
    batch = [make_overlapping(world, "a job", minute, policy) for minute in (1, 2)]
    await world.admission.apply_policies(batch, world.clock.now())

    expected = {
        OverlapPolicy.CANCEL_OTHER: [REPLACED, WAITING, RUNNING],
        OverlapPolicy.TERMINATE_OTHER: [SKIPPED, SKIPPED, RUNNING],
    }
    assert await list_records(world, "a job") == expected[policy]


@pytest.mark.parametrize("policy", [OverlapPolicy.CANCEL_OTHER, OverlapPolicy.TERMINATE_OTHER])
async def test_a_request_for_an_old_slot_ends_a_live_execution_of_a_later_slot(
    world: World, policy: OverlapPolicy
) -> None:
    """But not one that was created after the request."""
    for created_after, expected in ((False, TERMINATED), (True, RUNNING)):
        job = f"created after: {created_after}"
        await add_live(world, [job])
        request = make_slot(world, job, -5).model_copy(
            update={"kind": ExecutionKind.BACKFILL, "backfill_id": world.new_id()}
        )
        if created_after:
            created_at = request.created_at - MINUTE
            request = request.model_copy(update={"created_at": created_at})
        await world.admission.admit(request, policy, world.clock.now())
        if policy is OverlapPolicy.CANCEL_OTHER and not created_after:
            expected = ASKED
        assert (await list_records(world, job))[-1] == expected


async def test_cancel_other_does_not_replace_the_record_of_its_own_slot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process replaces the waiting execution by a record of the same slot, after this one
    has found the position taken."""
    await add_live(world, ["a job"])
    waiting = make_slot(world, "a job", 1).wait_at(0)
    await world.executions.insert(waiting)
    one = make_overlapping(world, "a job", 2, OverlapPolicy.CANCEL_OTHER)
    same_slot = one.execution.model_copy(update={"id": world.new_id()}).wait_at(0)

    async def record() -> None:
        assert await world.executions.cancel_queued(waiting.id, reason=Reason.REPLACED_BY_NEWER)
        assert await world.executions.insert(same_slot) is InsertResult.INSERTED

    act_before(monkeypatch, world.overlaps, "cancel_older_waiting", record)
    records = await world.admission.apply_policies([one], world.clock.now())

    assert records[one.execution.id].id == same_slot.id
    assert await list_records(world, "a job") == [ASKED, REPLACED, WAITING]


async def test_the_next_waiting_execution_is_promoted_if_the_first_is_cancelled_in_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = name_jobs(3)
    waiting = {
        job: [make_slot(world, job, minute).wait_at(2 - minute) for minute in (1, 2)]
        for job in jobs
    }
    await world.executions.insert_many([e for both in waiting.values() for e in both])
    cancelled = waiting[jobs[1]][0]

    async def cancel() -> None:
        assert await world.executions.cancel_queued(cancelled.id, reason=Reason.CANCELLED_BY_USER)

    act_before(monkeypatch, world.promotions, "_promote_all", cancel)
    await world.promotions.promote(jobs)

    assert await list_records(world, jobs[0]) == [QUEUED, WAITING]
    assert await list_records(world, jobs[1]) == [("cancelled", "cancelled_by_user", False), QUEUED]
    assert await list_records(world, jobs[2]) == [QUEUED, WAITING]


async def test_jobs_that_get_a_live_execution_in_between_do_not_stop_other_promotions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = name_jobs(20)
    await world.executions.insert_many([make_slot(world, job, 1).wait_at(0) for job in jobs])
    act_before(monkeypatch, world.promotions, "_promote_all", lambda: add_live(world, jobs[::2]))
    await world.promotions.promote(jobs)

    assert [(await list_records(world, job))[-1] for job in jobs] == [WAITING, QUEUED] * 10


@pytest.mark.parametrize("field", ["kind", "scheduled_for", "status"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_a_malformed_execution_of_one_job_does_not_affect_the_others(
    world: World, policy: OverlapPolicy, field: str
) -> None:
    jobs = name_jobs(3)
    await add_live(world, jobs)
    await world.executions.insert_many([make_slot(world, job, 1).wait_at(0) for job in jobs])
    of_job = {"job_id": jobs[1]}
    odd = [{"$set": {field: {"$concat": ["odd ", "$_id"]}}}]
    await world.database.collection("executions").update_many(of_job, odd)
    batch = [make_overlapping(world, job, 2, policy) for job in jobs]
    records = await world.admission.apply_policies(batch, world.clock.now())

    assert records.keys() == {one.execution.id for one in batch}
    expected = {
        OverlapPolicy.SKIP: [RUNNING, WAITING, SKIPPED],
        OverlapPolicy.BUFFER_ONE: [RUNNING, WAITING, FULL],
        OverlapPolicy.BUFFER_ALL: [RUNNING, WAITING, WAITING],
        OverlapPolicy.CANCEL_OTHER: [ASKED, REPLACED, WAITING],
        OverlapPolicy.TERMINATE_OTHER: [TERMINATED, WAITING, QUEUED],
    }
    assert await list_records(world, jobs[0]) == expected[policy]
    assert await list_records(world, jobs[2]) == expected[policy]
