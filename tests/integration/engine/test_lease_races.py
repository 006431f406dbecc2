"""Another process acts between the read and the write of a claim, a start, a settlement."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from app.models.execution import AttemptOutcome, Execution, ExecutionStatus, Reason
from app.models.policy import RetryPolicy
from app.repositories import cancellation
from app.repositories.leases import AttemptStart, LeaseRepository
from app.repositories.settlements import Settlement, settlement_stages
from tests.integration.engine.attempts import act_around, block_targets, make_lease, renew_late
from tests.support.engine import LEASE, SUCCEEDED, Process, World, claim_due
from tests.support.statements import record_writes

MILLISECOND = timedelta(milliseconds=1)


async def claim_one(world: World, process: Process, **changes: object) -> Execution:
    """Store an execution that `process` has claimed and not started."""
    job = await world.add_job(**changes)
    await world.queue(job, live_for=job.id)
    (claimed,) = await claim_due(process.leases, limit=1)
    return claimed


def make_first_start(claimed: Execution) -> AttemptStart:
    return AttemptStart(make_lease(claimed), 1, job_revision=1)


def make_first_success(claimed: Execution) -> Settlement:
    return Settlement(make_lease(claimed), ExecutionStatus.SUCCEEDED, 1, SUCCEEDED)


async def test_a_batch_claim_takes_only_executions_that_are_still_claimable(world: World) -> None:
    one, two = world.compose_process(), world.compose_process()
    job = await world.add_job()
    first, second, third, fourth = [await world.queue(job) for _ in range(4)]

    async def claim_and_cancel() -> None:
        assert [e.id for e in await claim_due(two.leases, limit=1)] == [first.id]
        await world.executions.cancel_queued(third.id, reason=Reason.CANCELLED_BY_USER)

    record_writes(one.leases).before_write = claim_and_cancel
    claimed = await claim_due(one.leases, limit=4)

    assert {e.id for e in claimed} == {second.id, fourth.id}
    stored = [await world.read(execution) for execution in (first, second, third, fourth)]
    assert [(e.status, e.lease_owner, e.lease_token) for e in stored] == [
        ("running", "process-2", 1),
        ("running", "process-1", 1),
        ("cancelled", None, 0),
        ("running", "process-1", 1),
    ]


async def test_a_renewal_revives_no_lease_that_has_run_out(world: World) -> None:
    process = world.compose_process()
    claimed = await claim_one(world, process)
    world.clock.advance(LEASE - MILLISECOND)
    assert process.heartbeat.renew("process-1", [make_lease(claimed)], term=LEASE) == {claimed.id}
    world.clock.advance(LEASE)
    assert process.heartbeat.renew("process-1", [make_lease(claimed)], term=LEASE) == set()
    assert (await world.read(claimed)).lease_until == world.clock.now()


async def test_the_reaper_reports_no_end_that_another_process_has_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer execution ends it under `terminate_other`, which raises the token too."""
    one, two = world.compose_process(), world.compose_process()
    claimed = await claim_one(world, one)
    newcomer = claimed.model_copy(update={"id": world.new_id()})
    executions = world.database.collection("executions")
    await executions.update_one({"_id": claimed.id}, {"$set": {"live_for": claimed.job_id}})
    world.clock.advance(LEASE)
    act_around(
        monkeypatch, "settle_expired", before=lambda: world.overlaps.terminate_live([newcomer])
    )
    with capture_logs() as logs:
        await two.reaper.tick()
    assert (await world.read(claimed)).status is ExecutionStatus.CANCELLED
    assert [line["event"] for line in logs if line["event"] == "lease_expired"] == []


async def test_the_reaper_does_not_settle_a_lease_that_was_renewed_after_its_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = world.compose_process(), world.compose_process()
    claimed = await claim_one(world, one)
    world.clock.advance(LEASE)

    async def renew() -> None:
        await renew_late(world, claimed)

    act_around(monkeypatch, "list_expired", after=renew)
    await two.reaper.tick()

    kept = await world.read(claimed)
    assert (kept.status, kept.lease_token) == (ExecutionStatus.RUNNING, claimed.lease_token)


async def test_the_reaper_does_not_queue_an_execution_whose_attempt_started_after_its_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise attempt 1 is sent twice, and `max_attempts` is exceeded."""
    one, two = world.compose_process(), world.compose_process()
    claimed = await claim_one(world, one, retry=RetryPolicy(max_attempts=1))
    world.clock.advance(LEASE)

    async def renew_and_start() -> None:
        await renew_late(world, claimed)
        assert await one.leases.start([make_first_start(claimed)]) == [True]
        world.clock.advance(LEASE)

    act_around(monkeypatch, "list_expired", after=renew_and_start)
    await two.reaper.tick()
    assert (await world.read(claimed)).status is ExecutionStatus.RUNNING
    await two.reaper.tick()

    failed = await world.read(claimed)
    assert failed.status is ExecutionStatus.FAILED
    assert [a.outcome for a in failed.attempts] == [AttemptOutcome.ABANDONED]


async def test_the_reaper_does_not_settle_an_attempt_that_ended_after_its_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = world.compose_process(), world.compose_process()
    claimed = await claim_one(world, one)
    assert await one.leases.start([make_first_start(claimed)]) == [True]
    world.clock.advance(LEASE)

    async def renew_and_succeed() -> None:
        await renew_late(world, claimed)
        assert await one.leases.settle([make_first_success(claimed)]) == [True]

    act_around(monkeypatch, "list_expired", after=renew_and_succeed)
    await two.reaper.tick()

    assert (await world.read(claimed)).status is ExecutionStatus.SUCCEEDED


async def test_an_attempt_starts_only_under_a_lease_that_has_not_run_out(world: World) -> None:
    process = world.compose_process()
    early, late = await claim_one(world, process), await claim_one(world, process)
    world.clock.advance(LEASE - MILLISECOND)
    assert await process.leases.start([make_first_start(early)]) == [True]
    world.clock.advance(MILLISECOND)
    assert await process.leases.start([make_first_start(late)]) == [False]
    # It started in time, but must not be delivered now.
    assert await process.leases.start([make_first_start(early)]) == [False]

    assert [len((await world.read(e)).attempts) for e in (early, late)] == [1, 0]


async def test_a_result_is_recorded_only_under_a_lease_that_has_not_run_out(world: World) -> None:
    process = world.compose_process()
    early, late = await claim_one(world, process), await claim_one(world, process)
    starts = [make_first_start(early), make_first_start(late)]
    assert await process.leases.start(starts) == [True, True]
    world.clock.advance(LEASE - MILLISECOND)
    assert await process.leases.settle([make_first_success(early)]) == [True]
    world.clock.advance(MILLISECOND)
    assert await process.leases.settle([make_first_success(late)]) == [False]
    # A second call returns what the first one returned.
    assert await process.leases.settle([make_first_success(early)]) == [True]

    assert (await world.read(late)).status is ExecutionStatus.RUNNING


async def test_a_success_after_the_end_of_the_lease_is_dropped_and_the_reaper_settles(
    world: World,
) -> None:
    process = world.compose_process()
    job = await world.add_job(retry=RetryPolicy(max_attempts=2))
    queued = await world.queue(job)
    target = block_targets(world)
    await process.worker.tick()
    await target.began.wait()
    world.clock.advance(LEASE)
    target.may_end.set()
    await process.finish_attempts()
    assert (await world.read(queued)).status is ExecutionStatus.RUNNING
    await process.reaper.tick()
    await process.work()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.SUCCEEDED
    assert [a.outcome for a in done.attempts] == ["abandoned", "succeeded"]


async def test_a_result_without_its_attempt_is_not_recorded(world: World) -> None:
    """After a failover the start may be lost."""
    process = world.compose_process()
    claimed = await claim_one(world, process)
    for attempts in ([], [{"number": 1, "outcome": "failed"}]):
        executions = world.database.collection("executions")
        await executions.update_one({"_id": claimed.id}, {"$set": {"attempts": attempts}})
        assert await process.leases.settle([make_first_success(claimed)]) == [False]
        document = await executions.find_one({"_id": claimed.id})
        assert document is not None
        assert (document["status"], document["attempts"]) == ("running", attempts)


async def test_a_cancel_between_the_claim_and_the_start_sends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = world.compose_process()
    job = await world.add_job()
    cancelled, other = await world.queue(job), await world.queue(job)

    async def cancel() -> None:
        reason = Reason.CANCELLED_BY_USER
        assert await world.executions.request_cancel(cancelled.id, reason=reason)

    act_around(monkeypatch, "start", before=cancel)
    await process.worker.tick()
    await process.finish_attempts()

    assert [d.execution_id for d in world.targets.deliveries] == [other.id]
    ended = await world.read(cancelled)
    assert (ended.status, ended.reason) == ("cancelled", "cancelled_by_user")
    assert ended.attempts == ()
    assert process.keeper.list_expiring(within=timedelta(days=1)) == set()


async def test_a_worker_that_loses_a_lease_before_the_start_leaves_the_execution_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not cancel an execution for which no cancel was requested."""
    one, two = world.compose_process(), world.compose_process()
    queued = await world.queue(await world.add_job())
    start = LeaseRepository.start

    async def expire() -> None:
        world.clock.advance(LEASE)

    act_around(monkeypatch, "start", before=expire)
    await one.worker.tick()
    assert LeaseRepository.start is start
    assert (await world.read(queued)).status is ExecutionStatus.RUNNING
    assert one.keeper.list_expiring(within=timedelta(days=1)) == set()
    await two.reaper.tick()
    await two.work()
    await one.worker.watch()

    done = await world.read(queued)
    assert done.status is ExecutionStatus.SUCCEEDED
    assert [d.attempt for d in world.targets.deliveries] == [1]
    assert not one.worker._given_up


async def test_a_claim_leaves_out_earlier_responses_and_ends_an_open_attempt(
    world: World,
) -> None:
    """An earlier release could queue an execution whose attempt had not ended."""
    process = world.compose_process()
    claimed = await claim_one(world, process)
    now = world.clock.now()
    ended = {"number": 1, "job_revision": 1, "started_at": now, "outcome": "failed"}
    ended |= {"error": "status 500", "response": {"status": 500, "body": "text"}}
    left_open = {"number": 2, "job_revision": 1, "started_at": now}
    changes = {"status": "queued", "attempts": [ended, left_open]}
    executions = world.database.collection("executions")
    await executions.update_one({"_id": claimed.id}, {"$set": changes})
    await world.queue(await world.add_job())
    claimed_again = await claim_due(process.leases, limit=2)
    owned = await process.leases.list_owned()
    world.clock.advance(LEASE)
    expired = (await process.leases.list_expired(limit=10)).executions

    stored = await world.read(claimed)
    assert stored.attempts[0].response is not None
    assert stored.attempts[0].response.body == "text"
    assert [a.outcome for a in stored.attempts] == ["failed", "abandoned"]
    assert stored.attempts[1].finished_at == now
    for found in (claimed_again, owned, expired):
        assert len(found) == 2
        (read,) = [e for e in found if e.id == claimed.id]
        assert [a.error for a in read.attempts] == ["status 500", "abandoned"]
        assert [a.response for a in read.attempts] == [None, None]


async def test_a_result_ends_its_own_attempt_and_leaves_no_other_one_open(world: World) -> None:
    """A process of an earlier release does not end an open attempt when it claims."""
    process = world.compose_process()
    claimed = await claim_one(world, process)
    now = world.clock.now()
    left_open = [{"number": n, "job_revision": 1, "started_at": now} for n in (1, 2)]
    executions = world.database.collection("executions")
    before = await executions.find_one({"_id": claimed.id})
    await executions.update_one({"_id": claimed.id}, {"$set": {"attempts": left_open}})
    success = Settlement(make_lease(claimed), ExecutionStatus.SUCCEEDED, 2, SUCCEEDED)
    assert await process.leases.settle([success]) == [True]

    done = await world.read(claimed)
    assert [(a.outcome, a.error) for a in done.attempts] == [
        ("abandoned", "abandoned"),
        ("succeeded", None),
    ]
    after = await executions.find_one({"_id": claimed.id})
    assert before is not None
    assert after is not None
    # The update adds no field but the end, and removes those of the lease.
    assert after.keys() - before.keys() == {"finished_at"}
    assert before.keys() - after.keys() == {"lease_owner", "lease_until", "live_for"}


@pytest.mark.parametrize(
    "odd", [{"attempts": "x"}, {"attempts": ["x", None]}, {"attempts": None}, {"lease_token": "x"}]
)
async def test_an_execution_of_an_unknown_form_fails_no_update_of_many(
    world: World, odd: dict[str, object]
) -> None:
    process = world.compose_process()
    queued = [await world.queue(await world.add_job()) for _ in range(2)]
    executions = world.database.collection("executions")
    await executions.update_one({"_id": queued[0].id}, {"$set": odd})
    now = world.clock.now_expression
    for update in (
        process.leases._build_claim(),
        settlement_stages([make_first_success(execution) for execution in queued], now),
        cancellation.end(Reason.CANCELLED_BY_USER, now),
    ):
        result = await executions.update_many({}, update)
        assert result.modified_count == 2
