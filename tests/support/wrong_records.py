"""Broken variants of the engine that record or show something wrong, see `variants.py`."""

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

from app.cache import Cache
from app.engine import executor
from app.models import schedule as schedules
from app.models.execution import FINAL_STATUSES, Execution, ExecutionStatus, Reason
from app.models.policy import CatchUpMode, CatchUpPolicy
from app.policies import jitter
from app.policies.retry import Decision, decide
from app.repositories import leases, settlements
from app.repositories.executions import ExecutionRepository
from app.repositories.promotions import PromotionRepository, StalledJobs
from app.repositories.settlements import Settlement
from app.services.firing import Firing

Patch = Callable[[Any, str, Any], None]


def _patch_everywhere(patch: Patch, module: ModuleType, name: str, new: Any) -> None:
    """Replace a function of `module` also in every module that has imported it."""
    original = getattr(module, name)
    for found in [m for key, m in sys.modules.items() if key.startswith("app.")]:
        if getattr(found, name, None) is original:
            patch(found, name, new)


def no_retries(patch: Patch) -> None:
    """An execution fails after its first failed attempt."""

    def decide_once(*args: Any, **named: Any) -> Decision:
        decision = decide(*args, **named)
        again = decision.status is ExecutionStatus.QUEUED
        return Decision(ExecutionStatus.FAILED) if again else decision

    patch(executor, "decide", decide_once)


def lost_success(patch: Patch) -> None:
    """An attempt that the receiver accepted is recorded as a failed execution."""

    def decide_wrongly(*args: Any, **named: Any) -> Decision:
        decision = decide(*args, **named)
        accepted = decision.status is ExecutionStatus.SUCCEEDED
        return Decision(ExecutionStatus.FAILED) if accepted else decision

    patch(executor, "decide", decide_wrongly)


def kept_live_for(patch: Patch) -> None:
    """The write that ends an execution leaves `live_for`."""
    stages = settlements.settlement_stages

    def keep(settled: Sequence[Settlement], now: Any) -> list[dict[str, Any]]:
        picked, first, second, *others = stages(settled, now)
        kept = {"$set": second["$set"] | {"live_for": "$live_for"}}
        return [picked, first, kept, *others]

    patch(leases, "settlement_stages", keep)


def no_max_runs(patch: Patch) -> None:
    """`max_runs` ends no schedule."""
    _patch_everywhere(patch, schedules, "runs_left", lambda _: None)


def no_catch_up_policy(patch: Patch) -> None:
    """Each late slot is executed, whatever the job's catch-up policy says."""
    fire = Firing.fire

    async def fire_all(self: Firing, jobs: Sequence[Any], *args: Any, **named: Any) -> int:
        everything = CatchUpPolicy(policy=CatchUpMode.ALL)
        changed = [job.model_copy(update={"catch_up": everything}) for job in jobs]
        return await fire(self, changed, *args, **named)

    patch(Firing, "fire", fire_all)


def negative_jitter(patch: Patch) -> None:
    """Jitter moves the start before the slot."""

    def move_back(job_id: str, slot: datetime, *, limit: timedelta) -> timedelta:
        return -limit / 2

    _patch_everywhere(patch, jitter, "jitter", move_back)


def missed_twice(patch: Patch) -> None:
    """The last slot of a `missed` record gets another record of its own."""
    insert, insert_many = ExecutionRepository.insert, ExecutionRepository.insert_many

    async def repeat(self: ExecutionRepository, executions: Sequence[Execution]) -> None:
        again = [
            one.model_copy(update={"id": f"{one.id}-again", "scheduled_for": one.missed_until})
            for one in executions
            if one.missed_until is not None and one.missed_until > one.scheduled_for
        ]
        if again:
            await insert_many(self, again)

    async def insert_twice(self: ExecutionRepository, execution: Execution) -> Any:
        result = await insert(self, execution)
        await repeat(self, [execution])
        return result

    async def insert_many_twice(self: ExecutionRepository, executions: Sequence[Execution]) -> Any:
        results = await insert_many(self, executions)
        await repeat(self, executions)
        return results

    patch(ExecutionRepository, "insert", insert_twice)
    patch(ExecutionRepository, "insert_many", insert_many_twice)


def skips_without_overlap(patch: Patch) -> None:
    """Slots are skipped although no other execution is live."""
    insert_many = ExecutionRepository.insert_many

    async def skip_all(self: ExecutionRepository, executions: Sequence[Execution]) -> Any:
        skipped = [
            one.skip(Reason.OVERLAP, one.created_at) if one.status not in FINAL_STATUSES else one
            for one in executions
        ]
        return await insert_many(self, skipped)

    patch(ExecutionRepository, "insert_many", skip_all)


def late_promotion(patch: Patch) -> None:
    """The end of an execution promotes nothing. Only the reaper promotes, at its next round."""
    promote, list_stalled_jobs = PromotionRepository.promote, PromotionRepository.list_stalled_jobs
    found: set[str] = set()

    async def list_for_reaper(self: PromotionRepository, *, after: str | None) -> StalledJobs:
        stalled = await list_stalled_jobs(self, after=after)
        found.update(stalled.job_ids)
        return stalled

    async def promote_for_reaper(self: PromotionRepository, job_ids: Iterable[str]) -> set[str]:
        promoted = found.intersection(job_ids)
        found.difference_update(promoted)
        return await promote(self, promoted) if promoted else set()

    patch(PromotionRepository, "list_stalled_jobs", list_for_reaper)
    patch(PromotionRepository, "promote", promote_for_reaper)


def stale_cache(patch: Patch) -> None:
    """A write invalidates no cached response."""

    async def invalidate(self: Cache, owner_id: str) -> None:
        return None

    patch(Cache, "invalidate", invalidate)


SEEN_BY_BOTH = (
    kept_live_for,
    lost_success,
    missed_twice,
    negative_jitter,
    no_catch_up_policy,
    no_max_runs,
    no_retries,
    skips_without_overlap,
)
"""The state machine and the checker must detect these."""

SEEN_BY_CHECKER = (late_promotion, stale_cache)
"""Only the checker detects these: in the state machine nothing is cached, and nothing is late."""
