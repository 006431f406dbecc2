"""The recorder: settles leases of this process, in batches.

While one batch is being written the next one gathers. So single results are written immediately,
and bursts in batches. If the database rejects a batch, its parts are written, so that one result
that cannot be stored harms no other.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from app.engine.history_limit import HistoryLimit
from app.engine.response_trimmer import ResponseTrimmer
from app.errors import UnavailableError
from app.models.execution import FINAL_STATUSES, Execution, Truncation
from app.repositories.batches import write_in_parts
from app.repositories.leases import LeaseRepository
from app.repositories.settlements import Settlement
from app.services.completion import Completion, Transition

_log = structlog.get_logger(__name__)

_BATCH = 500
_BATCH_BYTES = 8_000_000
"""Half of what MongoDB accepts as one statement (16 MB)."""


@dataclass(frozen=True, slots=True)
class _PendingSettlement:
    execution: Execution
    settlement: Settlement
    recorded: "asyncio.Future[bool]"


class Recorder:
    """Settles leases for any number of callers at once."""

    def __init__(
        self,
        *,
        leases: LeaseRepository,
        completion: Completion,
        history_limit: HistoryLimit,
        response_trimmer: ResponseTrimmer,
    ) -> None:
        self._leases = leases
        self._completion = completion
        self._history_limit = history_limit
        self._response_trimmer = response_trimmer
        self._pending: list[_PendingSettlement] = []
        self._writing: asyncio.Task[None] | None = None

    async def settle(self, execution: Execution, settlement: Settlement) -> bool:
        """Record the end of a lease; False if the lease was lost. Raises UnavailableError."""
        recorded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pending.append(_PendingSettlement(execution, settlement, recorded))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="recorder")
        return await recorded

    async def write_last_runs(self) -> None:
        """Store `last_run` and `last_status` of the jobs whose executions ended.

        Raises UnavailableError.
        """
        await self._completion.write_last_runs()

    async def finish(self) -> None:
        """Wait until nothing is being written."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def _write(self) -> None:
        batch: Sequence[_PendingSettlement] = ()
        try:
            while self._pending:
                count = _count_fitting(self._pending)
                batch, self._pending = self._pending[:count], self._pending[count:]
                try:
                    await self._write_batch(batch)
                except Exception as error:  # a bug; the callers of later batches wait for this task
                    # What is stored stays so; the reaper promotes what still waits.
                    _log.exception("batch_failed", executions=len(batch))
                    _fail(batch, error)
        finally:
            self._writing = None
            for one in (*batch, *self._pending):
                one.recorded.cancel()  # does nothing, unless this task was cancelled
            self._pending = []

    async def _write_batch(self, batch: Sequence[_PendingSettlement]) -> None:
        """Settle a batch, give each caller its result, and follow up."""
        settled = await self._settle([self._apply_limit(one) for one in batch])
        for one in settled:
            if _may_have_responses(one.settlement):
                self._response_trimmer.note_finished(one.execution.job_id)
        await self._completion.follow_up(
            [Transition(one.execution, one.settlement.status) for one in settled]
        )

    def _apply_limit(self, one: _PendingSettlement) -> _PendingSettlement:
        """Leave the headers and the body of the response out, if the owner has too many stored."""
        size = one.settlement.response_size
        if not size or self._take(one.execution, size):
            return one
        smaller = one.settlement.without_response(Truncation.HISTORY_LIMIT)
        return one if smaller is None else replace(one, settlement=smaller)

    def _take(self, execution: Execution, size: int) -> bool:
        """Whether a response of this size may be stored."""
        try:
            return self._history_limit.take(execution.owner_id, size)
        except Exception:  # a bug with one owner must not harm the others of the batch
            _log.exception("response_not_stored", execution_id=execution.id)
            return False

    async def _settle(self, batch: Sequence[_PendingSettlement]) -> list[_PendingSettlement]:
        """Settle a batch and give each caller its result. Returns those that were settled."""
        return await write_in_parts(batch, self._settle_at_once, self._settle_without_response)

    async def _settle_at_once(
        self, batch: Sequence[_PendingSettlement]
    ) -> list[_PendingSettlement]:
        try:
            won = await self._leases.settle([one.settlement for one in batch])
        except UnavailableError as error:
            for one in batch:  # their callers try again
                size = one.settlement.response_size
                self._history_limit.give_back(one.execution.owner_id, size)
            _fail(batch, error)
            return []
        results = list(zip(batch, won, strict=True))
        for one, ok in results:
            if not one.recorded.done():  # its caller may have been cancelled
                one.recorded.set_result(ok)
        return [one for one, ok in results if ok]

    async def _settle_without_response(
        self, one: _PendingSettlement, error: Exception
    ) -> list[_PendingSettlement]:
        """Settle one that the database rejected, without the headers and the body of its response:
        the outcome of the attempt must not be lost with them. If it has none of them, its caller
        gets the exception, also if it is a bug."""
        smaller = one.settlement.without_response(Truncation.TOO_LARGE)
        if smaller is None:
            _fail([one], error)
            return []
        _log.error("response_not_stored", execution_id=one.execution.id, exc_info=error)
        return await self._settle([replace(one, settlement=smaller)])


def _may_have_responses(settlement: Settlement) -> bool:
    """Whether the settlement ends an execution that may have stored responses."""
    has_response = settlement.response_size > 0 or settlement.attempts > 1
    return has_response and settlement.status in FINAL_STATUSES


def _count_fitting(pending: Sequence[_PendingSettlement]) -> int:
    """How many of these fit into one statement; at least one."""
    size = 0
    for count, one in enumerate(pending[:_BATCH]):
        size += one.settlement.size
        if size > _BATCH_BYTES and count > 0:
            return count
    return min(len(pending), _BATCH)


def _fail(batch: Sequence[_PendingSettlement], error: Exception) -> None:
    for one in batch:
        if not one.recorded.done():
            one.recorded.set_exception(error)
