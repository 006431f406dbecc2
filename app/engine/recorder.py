"""The recorder: settles leases of this process, in batches.

While one batch is being written the next one gathers. So single results are written immediately,
and bursts in batches.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from app.models.execution import Execution
from app.repositories.leases import LeaseRepository
from app.repositories.settlements import Settlement
from app.services.completion import Completion, Transition

_log = structlog.get_logger(__name__)

_BATCH = 500


@dataclass(frozen=True, slots=True)
class _PendingSettlement:
    execution: Execution
    settlement: Settlement
    recorded: "asyncio.Future[bool]"


class Recorder:
    """Settles leases for any number of callers at once."""

    def __init__(self, *, leases: LeaseRepository, completion: Completion) -> None:
        self._leases = leases
        self._completion = completion
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
                batch, self._pending = self._pending[:_BATCH], self._pending[_BATCH:]
                await self._write_batch(batch)
        finally:
            self._writing = None
            for one in (*batch, *self._pending):
                one.recorded.cancel()  # does nothing, unless this task was cancelled
            self._pending = []

    async def _write_batch(self, batch: Sequence[_PendingSettlement]) -> None:
        """Settle a batch and give each caller its result.

        Catches every exception, because the callers of later batches wait for this task.
        """
        try:
            won = await self._leases.settle([one.settlement for one in batch])
            results = list(zip(batch, won, strict=True))
        except Exception as error:  # each caller gets the exception, also if it is a bug
            for one in batch:
                if not one.recorded.done():
                    one.recorded.set_exception(error)
            return
        for one, ok in results:
            if not one.recorded.done():  # its caller may have been cancelled
                one.recorded.set_result(ok)
        try:
            await self._completion.follow_up(
                [Transition(r.execution, r.settlement.status) for r, ok in results if ok]
            )
        except Exception:  # the results are stored; the reaper promotes what still waits
            _log.exception("follow_up_failed", executions=len(batch))
