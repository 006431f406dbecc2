"""A new execution does not overtake executions of its job that wait already."""

from typing import Any

import pytest

from app.engine.loop import AT_ONCE
from app.models.execution import Execution, ExecutionKind, ExecutionStatus, Reason
from app.models.job import Job
from app.models.policy import OverlapPolicy
from app.repositories.executions import InsertResult
from app.repositories.jobs import LastRun
from app.repositories.promotions import PromotionRepository, StalledJobs
from app.services.admission import Candidate
from app.services.completion import Transition
from tests.integration.engine.overlaps import (
    ASKED,
    MINUTE,
    QUEUED,
    REPLACED,
    RUNNING,
    SKIPPED,
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
from tests.integration.engine.test_completion import completion_of, read_last_run
from tests.support.commands import CommandLog
from tests.support.engine import World

SUCCEEDED = ("succeeded", None, False)
BUFFERING = [OverlapPolicy.BUFFER_ONE, OverlapPolicy.BUFFER_ALL]


async def add_waiting(world: World, job_id: str, minute: int) -> Execution:
    waiting = make_slot(world, job_id, minute).wait_at(0)
    await world.executions.insert(waiting)
    return waiting


@pytest.mark.parametrize(
    "policy", [OverlapPolicy.BUFFER_ONE, OverlapPolicy.BUFFER_ALL, OverlapPolicy.CANCEL_OTHER]
)
async def test_a_slot_does_not_overtake_one_that_nobody_has_promoted(
    world: World, policy: OverlapPolicy
) -> None:
    """The worker of the live execution is killed between its result and the promotion."""
    process = world.compose_process()
    job = await world.add_job(world.every(60), overlap_policy=policy)
    await process.scheduler.tick()
    first = make_slot(world, job.id, 0)
    await world.executions.insert(run(world, first))
    for _ in range(30):
        world.clock.advance(MINUTE / 30)
        await process.scheduler.tick()
    await end_live(world, job.id)
    for _ in range(30):
        world.clock.advance(MINUTE / 30)
        await process.scheduler.tick()
    await process.work()

    slots = [d.scheduled_for for d in world.targets.deliveries]
    assert slots == sorted(slots)
    end = "cancelled_by_overlap" if policy is OverlapPolicy.CANCEL_OTHER else None
    second = REPLACED if policy is OverlapPolicy.CANCEL_OTHER else SUCCEEDED
    expected = [("succeeded", end, False), second, SUCCEEDED]
    assert await list_records(world, job.id) == expected


@pytest.mark.parametrize("policy", BUFFERING)
async def test_a_request_does_not_overtake_a_waiting_execution(
    world: World, policy: OverlapPolicy
) -> None:
    await add_waiting(world, "a job", 1)
    request = make_slot(world, "a job", 2, policy)
    assert await world.admission.admit(request, policy, world.clock.now()) is InsertResult.OVERLAP
    assert await list_records(world, "a job") == [QUEUED, WAITING]


async def test_a_slot_on_time_is_skipped_behind_late_slots_that_wait(world: World) -> None:
    """The late slots of the catch-up policy `all` wait also under `skip`."""
    await add_waiting(world, "a job", 1)
    late = make_overlapping(world, "a job", 2, OverlapPolicy.SKIP, 1_000)
    on_time = make_overlapping(world, "a job", 3, OverlapPolicy.SKIP)
    await world.admission.admit_many([late, on_time], world.clock.now())
    assert await list_records(world, "a job") == [QUEUED, WAITING, SKIPPED]


async def test_a_repeated_request_behind_a_waiting_execution_changes_nothing(
    world: World,
) -> None:
    """The request was executed before. Since then another execution runs, and one waits."""
    changes = {"kind": ExecutionKind.MANUAL, "schedule_id": None}
    done = make_slot(world, "a job", 0).model_copy(update=changes)
    await world.executions.insert(done.skip(Reason.OVERLAP, world.clock.now()))
    await world.executions.insert(run(world, make_slot(world, "a job", 1)))
    await add_waiting(world, "a job", 2)
    world.clock.advance(MINUTE)
    again = done.model_copy(update={"created_at": world.clock.now()})
    result = await world.admission.admit(again, OverlapPolicy.CANCEL_OTHER, world.clock.now())
    assert result is InsertResult.ALREADY_RECORDED
    assert await list_records(world, "a job") == [SKIPPED, RUNNING, WAITING]


@pytest.mark.parametrize(
    "policy", [OverlapPolicy.BUFFER_ONE, OverlapPolicy.BUFFER_ALL, OverlapPolicy.CANCEL_OTHER]
)
async def test_jobs_without_waiting_executions_cost_one_more_read_together(
    counted: World, commands: CommandLog, policy: OverlapPolicy
) -> None:
    counts = []
    for jobs in (["a job"], name_jobs(200)):
        batch = [make_overlapping(counted, job, 1, policy) for job in jobs]
        commands.clear()
        await counted.admission.admit_many(batch, counted.clock.now())
        counts.append([name for name, _ in commands.commands])
    assert counts == [["aggregate", "insert"]] * 2


@pytest.mark.parametrize(
    "policy", [OverlapPolicy.SKIP, OverlapPolicy.TERMINATE_OTHER, OverlapPolicy.ALLOW_ALL]
)
async def test_policies_under_which_nothing_waits_read_nothing_before_the_insert(
    counted: World, commands: CommandLog, policy: OverlapPolicy
) -> None:
    batch: list[Candidate] = [make_overlapping(counted, job, 1, policy) for job in name_jobs(3)]
    commands.clear()
    await counted.admission.admit_many(batch, counted.clock.now())
    assert [name for name, _ in commands.commands] == ["insert"]


@pytest.mark.parametrize("running", [False, True], ids=["queued", "running"])
async def test_cancel_other_ends_an_older_execution_that_becomes_live_in_between(
    world: World, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    await add_live(world, ["a job"])
    older = await add_waiting(world, "a job", 1)
    one = make_overlapping(world, "a job", 2, OverlapPolicy.CANCEL_OTHER)

    async def promote() -> None:
        await end_live(world, "a job")
        await world.promotions.promote(["a job"])
        if running:
            lease = {"lease_until": world.clock.now() + MINUTE, "lease_token": 1}
            changes = {"$set": {"status": "running", "lease_owner": "another"} | lease}
            await world.database.collection("executions").update_one({"_id": older.id}, changes)

    act_before(monkeypatch, world.executions, "insert_many", promote)
    await world.admission.apply_policies([one], world.clock.now())

    ended = ("succeeded", "cancelled_by_overlap", False)
    cancelled = ("cancelled", "cancelled_by_overlap", False)
    expected = [ended, ASKED, WAITING] if running else [ended, cancelled, QUEUED]
    assert await list_records(world, "a job") == expected


async def test_cancel_other_ends_nothing_that_follows_its_own_execution(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new execution runs, and then a backfill of an earlier slot, while the process is
    frozen."""
    await add_live(world, ["a job"])
    one = make_overlapping(world, "a job", 2, OverlapPolicy.CANCEL_OTHER)
    backfill = make_slot(world, "a job", -5).model_copy(
        update={"kind": ExecutionKind.BACKFILL, "backfill_id": world.new_id()}
    )
    cancel_live, calls = world.overlaps.cancel_live, []

    async def freeze(new: Any) -> set[str]:
        calls.append(new)
        if len(calls) == 2:
            for _ in range(2):
                await end_live(world, "a job")
                await world.promotions.promote(["a job"])
            await world.executions.insert(run(world, backfill))
        return await cancel_live(new)

    monkeypatch.setattr(world.overlaps, "cancel_live", freeze)
    await world.admission.apply_policies([one], world.clock.now())

    assert len(calls) == 2
    ended = ("succeeded", "cancelled_by_overlap", False)
    assert await list_records(world, "a job") == [RUNNING, ended, SUCCEEDED]


async def note_end(world: World, process: Any) -> tuple[Job, LastRun]:
    """Let an execution end. Its last run fields are not stored yet."""
    job = await world.add_job()
    execution = await world.queue(job)
    ended = [Transition(execution, ExecutionStatus.FAILED)]
    await completion_of(process).follow_up(ended)
    return job, LastRun(job.id, job.owner_id, execution.scheduled_for, ExecutionStatus.FAILED)


async def test_a_failed_promotion_does_not_stop_the_last_run_fields_or_the_next_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    for job_id in name_jobs(2):
        await add_waiting(world, job_id, 1)
    job, last = await note_end(world, process)
    list_stalled_jobs, promote = PromotionRepository.list_stalled_jobs, PromotionRepository.promote
    failures = ["a bug"]

    async def list_one(self: PromotionRepository, *, after: str | None) -> StalledJobs:
        return await list_stalled_jobs(self, after=after, limit=1)

    async def fail_once(self: PromotionRepository, job_ids: Any) -> set[str]:
        if failures:
            raise ValueError(failures.pop())
        return await promote(self, job_ids)

    monkeypatch.setattr(PromotionRepository, "list_stalled_jobs", list_one)
    monkeypatch.setattr(PromotionRepository, "promote", fail_once)
    with pytest.raises(ValueError, match="a bug"):
        await process.reaper.tick()
    assert await read_last_run(world, job) == (last.scheduled_for, last.status)
    assert await process.reaper.tick() == AT_ONCE
    assert [await list_records(world, job_id) for job_id in name_jobs(2)] == [[WAITING], [QUEUED]]
    assert await process.reaper.tick() > AT_ONCE
    assert await process.reaper.tick() == AT_ONCE
    assert await list_records(world, "job 0") == [QUEUED]
