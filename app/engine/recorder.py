"""The recorder: writes the ends of runs, as many at once as have ended, and what follows from them.

While one batch is on its way to the database the next gathers, so a lone end is written at once
and a herd of them in few writes.
"""

import asyncio
from collections.abc import Sequence

import structlog

from app.errors import UnavailableError
from app.models.execution import FINAL_STATUSES, Execution
from app.repositories.jobs import Finish, JobRepository
from app.repositories.leases import LeaseRepository, Settlement
from app.repositories.overlaps import OverlapRepository
from app.wake import Wake

_log = structlog.get_logger(__name__)

_BATCH = 500


class Recorder:
    """Settles leases of this process for any number of runs at once."""

    def __init__(
        self,
        *,
        jobs: JobRepository,
        leases: LeaseRepository,
        overlaps: OverlapRepository,
        wake: Wake,
    ) -> None:
        self._jobs = jobs
        self._leases = leases
        self._overlaps = overlaps
        self._wake = wake
        self._waiting: list[tuple[Execution, Settlement, asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._finishes: list[Finish] = []

    async def settle(self, execution: Execution, settlement: Settlement) -> bool:
        """Record the end of a run; False if its lease was lost. Raises UnavailableError."""
        recorded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((execution, settlement, recorded))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="recorder")
        return await recorded

    async def rest(self) -> None:
        """Wait until nothing is being written."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def write_hints(self) -> None:
        """Store `last_run` and `last_status` of the jobs whose executions have ended."""
        if not self._finishes:
            return
        finishes, self._finishes = self._finishes, []
        try:
            await self._jobs.note_finished(finishes)
        except UnavailableError:
            self._finishes = finishes + self._finishes
            raise

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                await self._write_batch(batch)
        finally:
            self._writing = None

    async def _write_batch(
        self, batch: Sequence[tuple[Execution, Settlement, "asyncio.Future[bool]"]]
    ) -> None:
        try:
            won = await self._leases.settle([settlement for _, settlement, _ in batch])
        except Exception as error:  # a bug, too, is for whoever waits
            for _, _, recorded in batch:
                recorded.set_exception(error)
            return
        for (_, _, recorded), ok in zip(batch, won, strict=True):
            recorded.set_result(ok)
        settled = [(e, s) for (e, s, _), ok in zip(batch, won, strict=True) if ok]
        self._finishes += [
            Finish(e.job_id, e.scheduled_for, s.status)
            for e, s in settled
            if s.status in FINAL_STATUSES
        ]
        # One that was to run again has ended too, if somebody had asked it to stop.
        await self._make_way([e.job_id for e, _ in settled if e.live_for is not None])

    async def _make_way(self, job_ids: Sequence[str]) -> None:
        """Let the executions go on that waited for the end of these."""
        if not job_ids:
            return
        try:
            for job_id in await self._overlaps.list_waiting(job_ids):
                if await self._overlaps.promote(job_id):
                    self._wake.executions_queued()
        except UnavailableError:
            _log.warning("promotions_left_to_the_reaper", jobs=len(job_ids))
