"""Live, waiting and new executions for the tests of the overlap policies."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from app.models.execution import Attempt, Execution, ExecutionKind, ExecutionStatus
from app.models.policy import OverlapPolicy
from app.services.admission import Candidate
from tests.support.engine import LEASE, World

MINUTE = timedelta(minutes=1)
POLICIES = [policy for policy in OverlapPolicy if policy is not OverlapPolicy.ALLOW_ALL]
Expected = tuple[str, str | None, bool]
"""Status, reason and `waiting` of a record."""

RUNNING = ("running", None, False)
WAITING = ("queued", None, True)
QUEUED = ("queued", None, False)
SKIPPED = ("skipped", "overlap", False)
FULL = ("skipped", "buffer_full", False)
ASKED = ("running", "cancelled_by_overlap", False)
TERMINATED = ("cancelled", "terminated_by_overlap", False)
REPLACED = ("cancelled", "replaced_by_newer", False)


def name_jobs(count: int) -> list[str]:
    return [f"job {n}" for n in range(count)]


def make_slot(
    world: World, job_id: str, minute: int, policy: OverlapPolicy = OverlapPolicy.SKIP
) -> Execution:
    """Return a new execution of a slot of the job's only schedule."""
    now = world.clock.now()
    return Execution.queue(
        world.new_id(),
        job_id=job_id,
        owner_id="owner",
        schedule_id=f"schedule of {job_id}",
        kind=ExecutionKind.SCHEDULED,
        scheduled_for=now + minute * MINUTE,
        run_at=now,
        policy=policy,
        now=now,
    )


def make_overlapping(
    world: World, job_id: str, minute: int, policy: OverlapPolicy, positions: int | None = None
) -> Candidate:
    return Candidate(make_slot(world, job_id, minute, policy), policy, positions)


def run(world: World, execution: Execution, **changes: Any) -> Execution:
    """Return the execution as one that a worker has started."""
    now = world.clock.now()
    running: dict[str, Any] = {
        "status": ExecutionStatus.RUNNING,
        "lease_owner": "another process",
        "lease_until": now + LEASE,
        "lease_token": 1,
        "attempts": (Attempt(number=1, job_revision=1, started_at=now),),
    }
    return execution.model_copy(update=running | changes)


async def add_live(world: World, job_ids: Sequence[str], *, running: bool = True) -> None:
    """Store a live execution of the slot 0 for each job."""
    live = [make_slot(world, job_id, 0) for job_id in job_ids]
    await world.executions.insert_many([run(world, e) for e in live] if running else live)


async def end_live(world: World, job_id: str) -> None:
    """End the job's live execution, as a worker that is killed before it promotes."""
    live = {"live_for": job_id}
    end = {"$set": {"status": "succeeded"}, "$unset": {"live_for": True}}
    await world.database.collection("executions").update_one(live, end)


async def list_records(world: World, job_id: str) -> list[Expected]:
    """Return status, reason and `waiting` of the job's executions, in the order of their slots."""
    found = world.database.collection("executions").find({"job_id": job_id})
    documents = await found.sort("scheduled_for").to_list(None)
    return [(one["status"], one.get("reason"), one["waiting"]) for one in documents]


def act_before(
    monkeypatch: pytest.MonkeyPatch, role: object, method: str, act: Callable[[], Awaitable[Any]]
) -> None:
    """Let another process act before the first call of the method."""
    call, acts = getattr(role, method), [act]

    async def act_first(*args: Any) -> Any:
        while acts:
            await acts.pop()()
        return await call(*args)

    monkeypatch.setattr(role, method, act_first)
