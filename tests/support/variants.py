"""Broken variants of the engine: each removes one rule on which a guarantee depends.

Each one must be detected by the life tests, by the checker of the chaos runs, or by both. So a
check that passes is known to be able to fail.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo import IndexModel

from app.clock import SystemClock
from app.engine import executor
from app.models.execution import Execution, ExecutionStatus
from app.policies.retry import Decision, decide
from app.repositories import heartbeat, indexes, lease_fence, leases, mongo, settlements
from app.repositories.documents import from_document
from app.repositories.indexes import INDEXES
from app.repositories.lease_fence import Lease
from app.repositories.leases import ExpiredPage, LeaseRepository
from app.repositories.promotions import PromotionRepository
from app.repositories.settlements import Settlement
from app.services.due_schedules import DueSchedule, build_advances
from app.services.firing import Firing
from tests.support.clock import ManualClock
from tests.support.wrong_records import SEEN_BY_BOTH, SEEN_BY_CHECKER

Patch = Callable[[Any, str, Any], None]


def next_run_before_record(patch: Patch) -> None:
    """`next_run` advances first, then the records are written."""
    record = Firing._record

    async def advance_first(
        self: Firing, due: Sequence[DueSchedule], now: datetime, read_at: float
    ) -> int:
        # With max_runs the early advance would also store a wrong count, which is another fault.
        if all(one.schedule.max_runs is None for one in due):
            await self._jobs.advance(build_advances(due))
        return await record(self, due, now, read_at)

    patch(Firing, "_record", advance_first)


def no_fence(patch: Patch) -> None:
    """Writes on a lease ignore the token."""

    def build_fence(leases: Sequence[Lease], *_: object) -> dict[str, Any]:
        return {"_id": {"$in": [lease.execution_id for lease in leases]}}

    patch(lease_fence, "build_fence", build_fence)


def acknowledged_by_one(patch: Patch) -> None:
    """`w=1`: a write is acknowledged before a majority of members has it."""
    options = mongo.client_options

    def weaken(timeout: timedelta) -> dict[str, Any]:
        return options(timeout) | {"w": 1}

    patch(mongo, "client_options", weaken)
    patch(heartbeat, "client_options", weaken)


def no_slot_index(patch: Patch) -> None:
    """No index prevents a second record of a slot: the index is not unique."""
    changed = [
        _without_unique(index) if index.document["name"] == "slot" else index
        for index in INDEXES["executions"]
    ]
    patch(indexes, "INDEXES", INDEXES | {"executions": changed})


def _without_unique(index: IndexModel) -> IndexModel:
    options = {key: value for key, value in index.document.items() if key != "unique"}
    return IndexModel(options.pop("key").items(), **options)


def own_clock(patch: Patch) -> None:
    """The process's own clock decides what is due, and it is an hour fast."""
    fast = property(lambda self: {"$literal": self.now() + timedelta(hours=1)})
    for clock in (SystemClock, ManualClock):
        patch(clock, "now_expression", fast)


def early_reaper(patch: Patch) -> None:
    """The reaper treats every lease as expired."""

    async def list_running(self: LeaseRepository, *, limit: int, **_: Any) -> ExpiredPage:
        found = self._executions.find({"status": "running"}).limit(limit)
        running = [from_document(Execution, document) for document in await found.to_list(None)]
        return ExpiredPage(running, len(running), is_full=False)

    async def settle(self: LeaseRepository, settlements: Sequence[Settlement]) -> list[bool]:
        raise_token = {"$set": {"lease_token": {"$add": ["$lease_token", 1]}}}
        await self._settle(settlements, {}, [raise_token])
        return [True] * len(settlements)

    patch(LeaseRepository, "list_expired", list_running)
    patch(LeaseRepository, "settle_expired", settle)


def no_live_index(patch: Patch) -> None:
    """No index prevents a second live execution of a job."""
    others = [index for index in INDEXES["executions"] if index.document["name"] != "live"]
    patch(indexes, "INDEXES", INDEXES | {"executions": others})


def uncancellable_finish(patch: Patch) -> None:
    """The write that ends an attempt ignores a requested cancel."""
    stages = settlements.settlement_stages

    def ignore_cancel(settlements: Sequence[Settlement], now: Any) -> list[dict[str, Any]]:
        picked, first, *others = stages(settlements, now)
        *_, status = first["$set"]["status"]["$cond"]
        return [picked, {"$set": first["$set"] | {"status": status}}, *others]

    patch(leases, "settlement_stages", ignore_cancel)


def endless_attempts(patch: Patch) -> None:
    """A failed attempt is always followed by another one."""

    def retry_always(*args: Any, **named: Any) -> Decision:
        decision = decide(*args, **named)
        failed = decision.status in {ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT}
        return Decision(ExecutionStatus.QUEUED) if failed else decision

    patch(executor, "decide", retry_always)


def claim_while_waiting(patch: Patch) -> None:
    """A claim also takes executions that wait for the end of another one."""
    claimable = LeaseRepository.claimable

    def any_queued(self: LeaseRepository) -> dict[str, Any]:
        return {key: value for key, value in claimable(self).items() if key != "waiting"}

    patch(LeaseRepository, "claimable", any_queued)


def no_promotion(patch: Patch) -> None:
    """Waiting executions are never promoted."""

    async def promote(self: PromotionRepository, job_ids: Iterable[str]) -> set[str]:
        return set()

    patch(PromotionRepository, "promote", promote)


VARIANTS: dict[str, Callable[[Patch], None]] = {
    variant.__name__: variant
    for variant in (
        acknowledged_by_one,
        claim_while_waiting,
        early_reaper,
        endless_attempts,
        next_run_before_record,
        no_fence,
        no_live_index,
        no_promotion,
        no_slot_index,
        own_clock,
        uncancellable_finish,
        *SEEN_BY_BOTH,
        *SEEN_BY_CHECKER,
    )
}
"""The variants by name, for `python -m tests.chaos --broken NAME`."""

NOT_IN_LIFE = {"acknowledged_by_one"} | {variant.__name__ for variant in SEEN_BY_CHECKER}
"""The state machine does not detect these: the first one shows only after a failover, and
`make chaos-smoke` tests it."""
