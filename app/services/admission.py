"""Admission: inserts executions, subject to the overlap policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.models.execution import Execution, Reason
from app.models.policy import OverlapPolicy
from app.repositories.executions import ExecutionRepository, InsertResult
from app.repositories.overlaps import OverlapRepository

MAX_WAITING = 100
"""The most executions of a job that wait under `buffer_all`."""

_MAX_TRIES = 5  # a try fails if another execution becomes live or takes the position in between


@dataclass(frozen=True, slots=True)
class Overlapping:
    """A new execution that was not inserted, because another execution of its job is live."""

    execution: Execution
    policy: OverlapPolicy
    positions: int | None = None
    """How many executions of the job may wait. With a number the execution also waits under `skip`.
    None means the number of the policy. `cancel_other` and `terminate_other` ignore it."""

    @property
    def room(self) -> int:
        """How many executions of the job may wait; 0 means that this one must not wait."""
        match self.policy:
            case OverlapPolicy.SKIP:
                return self.positions or 0
            case OverlapPolicy.BUFFER_ONE:
                return self.positions or 1
            case OverlapPolicy.BUFFER_ALL:
                return self.positions or MAX_WAITING
            case _:
                return 0


class Admission:
    """Inserts executions so that at most one of a job is live (see `repositories/overlaps.py`)."""

    def __init__(self, *, executions: ExecutionRepository, overlaps: OverlapRepository) -> None:
        self._executions = executions
        self._overlaps = overlaps

    async def admit(
        self, execution: Execution, policy: OverlapPolicy, now: datetime
    ) -> InsertResult:
        """Insert a new execution as the policy allows. The caller wakes the workers afterwards.

        The result INSERTED means that `execution` was stored unchanged. `execution` must have
        `live_for`, unless the policy is `allow_all`. If its slot already has a record, nothing is
        changed.
        """
        result = await self._executions.insert(execution)
        if result is InsertResult.OVERLAP:
            await self.apply_policy(execution, policy, now)
        return result

    async def apply_policies(
        self, overlapping: Sequence[Overlapping], now: datetime
    ) -> Mapping[str, Execution]:
        """Insert executions whose jobs have a live one, the earliest slots first.

        Returns by execution id the record as inserted, or the record of its slot that another
        process inserted in between. There is no entry if a newer release wrote that record.
        """
        records: dict[str, Execution] = {}
        for one in sorted(overlapping, key=lambda one: one.execution.scheduled_for):
            inserted = await self._apply_one(one, now)
            for stored in await self._executions.list_stored([inserted]):
                records[inserted.id] = stored
        return records

    async def apply_policy(
        self, execution: Execution, policy: OverlapPolicy, now: datetime
    ) -> Execution | None:
        """As `apply_policies`, for one execution."""
        records = await self.apply_policies([Overlapping(execution, policy)], now)
        return records.get(execution.id)

    async def _apply_one(self, one: Overlapping, now: datetime) -> Execution:
        match one.policy:
            case OverlapPolicy.CANCEL_OTHER:
                return await self._cancel_other(one.execution, now)
            case OverlapPolicy.TERMINATE_OTHER:
                return await self._terminate_other(one.execution, now)
            case _ if one.room:
                return await self._buffer(one.execution, one.room, now)
            case _:  # Under `allow_all` no execution overlaps.
                return await self._skip(one.execution, Reason.OVERLAP, now)

    async def _skip(self, execution: Execution, reason: Reason, now: datetime) -> Execution:
        skipped = execution.skip(reason, now)
        await self._executions.insert(skipped)
        return skipped

    async def _buffer(self, execution: Execution, positions: int, now: datetime) -> Execution:
        taken = await self._overlaps.list_positions(execution.job_id)
        # Waiting executions may have higher positions, from `buffer_all` before an edit or from a
        # request with its own policy.
        free = set(range(positions)) - taken if len(taken) < positions else set()
        for position in sorted(free):
            waiting = execution.wait_at(position)
            if await self._executions.insert(waiting) is not InsertResult.FULL:
                await self._overlaps.promote(execution.job_id)  # the live one may have ended
                return waiting
        return await self._skip(execution, Reason.BUFFER_FULL, now)

    async def _cancel_other(self, execution: Execution, now: datetime) -> Execution:
        await self._overlaps.cancel_live(execution)
        inserted = await self._take_first_position(execution, now)
        await self._overlaps.promote(execution.job_id)  # the live one may have ended immediately
        return inserted

    async def _take_first_position(self, execution: Execution, now: datetime) -> Execution:
        waiting = execution.wait_at(0)
        for _ in range(_MAX_TRIES):
            if await self._executions.insert(waiting) is not InsertResult.FULL:
                return waiting
            await self._overlaps.cancel_older_waiting(execution, 0)
        # An execution of a later slot has the first position.
        return await self._skip(execution, Reason.BUFFER_FULL, now)

    async def _terminate_other(self, execution: Execution, now: datetime) -> Execution:
        for _ in range(_MAX_TRIES):
            await self._overlaps.terminate_live(execution)
            if await self._executions.insert(execution) is not InsertResult.OVERLAP:
                return execution
        return await self._skip(execution, Reason.OVERLAP, now)
