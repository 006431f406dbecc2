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
from app.services.completion import Completion, Ended

_log = structlog.get_logger(__name__)

_BATCH = 500


@dataclass(frozen=True, slots=True)
class _Request:
    execution: Execution
    settlement: Settlement
    recorded: "asyncio.Future[bool]"


class Recorder:
    """Settles leases for any number of callers at once."""

    def __init__(self, *, leases: LeaseRepository, completion: Completion) -> None:
        self._leases = leases
        self._completion = completion
        self._requests: list[_Request] = []
        self._writing: asyncio.Task[None] | None = None

    async def settle(self, execution: Execution, settlement: Settlement) -> bool:
        """Record the end of a lease; False if the lease was lost. Raises UnavailableError."""
        recorded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._requests.append(_Request(execution, settlement, recorded))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="recorder")
        return await recorded

    async def write_last_runs(self) -> None:
        """Store the last run fields of the jobs of what was settled. Raises UnavailableError."""
        await self._completion.write_last_runs()

    async def finish(self) -> None:
        """Wait until nothing is being written."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def _write(self) -> None:
        batch: Sequence[_Request] = ()
        try:
            while self._requests:
                batch, self._requests = self._requests[:_BATCH], self._requests[_BATCH:]
                await self._write_batch(batch)
        finally:
            self._writing = None
            for request in (*batch, *self._requests):
                request.recorded.cancel()  # does nothing, unless this task was cancelled
            self._requests = []

    async def _write_batch(self, batch: Sequence[_Request]) -> None:
        """Settle a batch, and tell each caller. No failure may end the writer: others wait."""
        try:
            won = await self._leases.settle([request.settlement for request in batch])
            results = list(zip(batch, won, strict=True))
        except Exception as error:  # a bug too belongs to the callers
            for request in batch:
                if not request.recorded.done():
                    request.recorded.set_exception(error)
            return
        for request, ok in results:
            if not request.recorded.done():  # its caller may have been cancelled
                request.recorded.set_result(ok)
        try:
            await self._completion.follow_up(
                [Ended(r.execution, r.settlement.status) for r, ok in results if ok]
            )
        except Exception:  # the results are stored; the reaper promotes what still waits
            _log.exception("follow_up_failed", executions=len(batch))
