"""Admission: what becomes of an execution whose job has a live one, by the overlap policy."""

from datetime import datetime

from app.models.execution import Execution, ExecutionStatus
from app.models.policy import OverlapPolicy
from app.repositories.executions import ExecutionRepository, InsertResult
from app.repositories.overlaps import OverlapRepository

OVERLAP = "overlap"
"""The reason of a slot that was skipped because another execution was live."""
BUFFER_FULL = "buffer_full"
"""The reason of a slot that was skipped because no place to wait was free."""

MOST_HELD = 100
"""How many executions of a job wait under `buffer_all`."""

_MOST_TRIES = 5  # each lost to another execution that took the place meanwhile


class Admission:
    """Records executions so that of those that do not run side by side one is live."""

    def __init__(self, *, executions: ExecutionRepository, overlaps: OverlapRepository) -> None:
        self._executions = executions
        self._overlaps = overlaps

    async def admit(
        self, execution: Execution, policy: OverlapPolicy, now: datetime
    ) -> InsertResult:
        """Record a new execution that may run at once; says what became of it as it is.

        It must carry `live_for`, unless the policy is `allow_all`. Where its slot has a record
        already, nothing is changed.
        """
        result = await self._executions.insert(execution)
        if result is InsertResult.OVERLAP:
            await self.settle_overlap(execution, policy, now)
        return result

    async def settle_overlap(
        self, execution: Execution, policy: OverlapPolicy, now: datetime
    ) -> Execution:
        """Record an execution that another live one keeps from being live."""
        match policy:
            case OverlapPolicy.SKIP | OverlapPolicy.ALLOW_ALL:
                return await self._skip(execution, OVERLAP, now)
            case OverlapPolicy.BUFFER_ONE:
                return await self._hold(execution, 1, now)
            case OverlapPolicy.BUFFER_ALL:
                return await self._hold(execution, MOST_HELD, now)
            case OverlapPolicy.CANCEL_OTHER:
                return await self._cancel_other(execution, now)
            case OverlapPolicy.TERMINATE_OTHER:
                return await self._terminate_other(execution, now)

    async def promote(self, job_id: str) -> bool:
        """After the live execution's end: let the first that waits go on."""
        return await self._overlaps.promote(job_id)

    async def _skip(self, execution: Execution, reason: str, now: datetime) -> Execution:
        record = skipped(execution, reason, now)
        await self._executions.insert(record)
        return record

    async def _hold(self, execution: Execution, places: int, now: datetime) -> Execution:
        taken = await self._overlaps.list_places(execution.job_id)
        # Others may wait at higher places: under `buffer_all`, before an edit or on request.
        free = set(range(places)) - taken if len(taken) < places else set()
        for place in sorted(free):
            held = _held_at(execution, place)
            if await self._executions.insert(held) is not InsertResult.FULL:
                await self._overlaps.promote(execution.job_id)  # the live one may have ended
                return held
        return await self._skip(execution, BUFFER_FULL, now)

    async def _cancel_other(self, execution: Execution, now: datetime) -> Execution:
        await self._overlaps.cancel_live(execution)
        recorded = await self._take_first_place(execution, now)
        await self._overlaps.promote(execution.job_id)  # what was live may have ended at once
        return recorded

    async def _take_first_place(self, execution: Execution, now: datetime) -> Execution:
        held = _held_at(execution, 0)
        for _ in range(_MOST_TRIES):
            if await self._executions.insert(held) is not InsertResult.FULL:
                return held
            await self._overlaps.give_up_place(execution, 0)
        return await self._skip(execution, BUFFER_FULL, now)  # a newer one waits there

    async def _terminate_other(self, execution: Execution, now: datetime) -> Execution:
        for _ in range(_MOST_TRIES):
            await self._overlaps.terminate_live(execution)
            if await self._executions.insert(execution) is not InsertResult.OVERLAP:
                return execution
        return await self._skip(execution, OVERLAP, now)


def skipped(execution: Execution, reason: str, now: datetime) -> Execution:
    """The record of a slot that does not run."""
    return execution.model_copy(
        update={
            "status": ExecutionStatus.SKIPPED,
            "reason": reason,
            "live_for": None,
            "finished_at": now,
        }
    )


def _held_at(execution: Execution, place: int) -> Execution:
    return execution.model_copy(update={"held": True, "place": place, "live_for": None})
