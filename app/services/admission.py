"""Admission: inserts executions, subject to the overlap policy."""

from datetime import datetime

from app.models.execution import Execution, Reason
from app.models.policy import OverlapPolicy
from app.repositories.executions import ExecutionRepository, InsertResult
from app.repositories.overlaps import OverlapRepository

MAX_WAITING = 100
"""The most executions of a job that wait under `buffer_all`."""

_MOST_TRIES = 5  # each fails if another execution takes that place meanwhile


class Admission:
    """Inserts executions so that of those that do not run under `allow_all` one is live."""

    def __init__(self, *, executions: ExecutionRepository, overlaps: OverlapRepository) -> None:
        self._executions = executions
        self._overlaps = overlaps

    async def admit(
        self, execution: Execution, policy: OverlapPolicy, now: datetime
    ) -> InsertResult:
        """Insert a new execution as the policy allows. The caller wakes the workers afterwards.

        INSERTED means that it was inserted as it is. It must carry `live_for`, unless the policy
        is `allow_all`. If its slot already has a record, nothing is changed.
        """
        result = await self._executions.insert(execution)
        if result is InsertResult.OVERLAP:
            await self.apply_policy(execution, policy, now)
        return result

    async def apply_policy(
        self, execution: Execution, policy: OverlapPolicy, now: datetime
    ) -> Execution:
        """Insert an execution whose job has a live one. Returns the record as inserted."""
        match policy:
            case OverlapPolicy.SKIP | OverlapPolicy.ALLOW_ALL:
                return await self._skip(execution, Reason.OVERLAP, now)
            case OverlapPolicy.BUFFER_ONE:
                return await self._buffer(execution, 1, now)
            case OverlapPolicy.BUFFER_ALL:
                return await self._buffer(execution, MAX_WAITING, now)
            case OverlapPolicy.CANCEL_OTHER:
                return await self._cancel_other(execution, now)
            case OverlapPolicy.TERMINATE_OTHER:
                return await self._terminate_other(execution, now)

    async def _skip(self, execution: Execution, reason: Reason, now: datetime) -> Execution:
        skipped = execution.skip(reason, now)
        await self._executions.insert(skipped)
        return skipped

    async def _buffer(self, execution: Execution, places: int, now: datetime) -> Execution:
        taken = await self._overlaps.list_places(execution.job_id)
        # Others may wait at higher places: under `buffer_all`, before an edit or on request.
        free = set(range(places)) - taken if len(taken) < places else set()
        for place in sorted(free):
            waiting = execution.wait_at(place)
            if await self._executions.insert(waiting) is not InsertResult.FULL:
                await self._overlaps.promote(execution.job_id)  # the live one may have ended
                return waiting
        return await self._skip(execution, Reason.BUFFER_FULL, now)

    async def _cancel_other(self, execution: Execution, now: datetime) -> Execution:
        await self._overlaps.cancel_live(execution)
        inserted = await self._take_first_place(execution, now)
        await self._overlaps.promote(execution.job_id)  # the live one may have ended at once
        return inserted

    async def _take_first_place(self, execution: Execution, now: datetime) -> Execution:
        waiting = execution.wait_at(0)
        for _ in range(_MOST_TRIES):
            if await self._executions.insert(waiting) is not InsertResult.FULL:
                return waiting
            await self._overlaps.replace_waiting(execution, 0)
        return await self._skip(execution, Reason.BUFFER_FULL, now)  # a newer one waits there

    async def _terminate_other(self, execution: Execution, now: datetime) -> Execution:
        for _ in range(_MOST_TRIES):
            await self._overlaps.terminate_live(execution)
            if await self._executions.insert(execution) is not InsertResult.OVERLAP:
                return execution
        return await self._skip(execution, Reason.OVERLAP, now)
