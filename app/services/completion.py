"""Completion: what follows when executions leave the queue or their worker, whoever ended them."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from app.cache import Cache
from app.errors import UnavailableError
from app.models.execution import FINAL_STATUSES, Execution, ExecutionStatus
from app.repositories.batches import write_in_parts
from app.repositories.jobs import LAST_RUNS_BATCH, JobRepository, LastRun
from app.repositories.promotions import PromotionRepository
from app.wake import Wake

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Transition:
    """An execution whose lease or queueing ended, and its next status.

    `queued` means that another attempt follows, unless a cancel was requested: then the database
    has stored `cancelled` instead.
    """

    execution: Execution
    status: ExecutionStatus


class Completion:
    """The step that follows every transition: last run fields, promotion, wake-up."""

    def __init__(
        self, *, jobs: JobRepository, promotions: PromotionRepository, cache: Cache, wake: Wake
    ) -> None:
        self._jobs = jobs
        self._promotions = promotions
        self._cache = cache
        self._wake = wake
        self._last_runs: dict[str, LastRun] = {}
        """By job: the newest slot that is not stored yet."""
        self._writing_last_runs = asyncio.Lock()
        self._last_checked: str | None = None
        """The last job that `promote_jobs_without_live` has read; None before the first job."""

    async def follow_up(self, transitions: Sequence[Transition]) -> None:
        """Keep the last run fields for `write_last_runs`, promote the executions that waited for
        these, and wake the workers.

        If a requested cancel replaced `queued` by `cancelled`, the last run fields are not written.
        An outage is only logged: the reaper promotes later.
        """
        self._remember(_last_runs_of(transitions))
        await self._promote_and_wake(transitions)

    async def follow_up_request(self, transitions: Sequence[Transition]) -> None:
        """As `follow_up`, but store the last run fields now, and drop the cached responses that
        show them: a process that serves only the API has no loops for this. An outage is only
        logged."""
        await self._promote_and_wake(transitions)
        try:
            await self._jobs.note_last_runs(_last_runs_of(transitions))
        except UnavailableError:
            _log.warning("last_runs_lost", jobs=len(transitions))
        for owner_id in {one.execution.owner_id for one in transitions}:
            await self._cache.invalidate(owner_id)

    async def promote_jobs_without_live(self) -> bool:
        """Promote for jobs that have a waiting execution and no live one: a process ended before
        it promoted. Raises UnavailableError.

        A call reads one page of the jobs, and the next call the next page, also if this one fails.
        Returns whether there are more pages.
        """
        stalled = await self._promotions.list_stalled_jobs(after=self._last_checked)
        self._last_checked = stalled.last
        if stalled.job_ids:
            await self._promote(stalled.job_ids)
        return stalled.last is not None

    async def write_last_runs(self) -> None:
        """Store the last run fields of the jobs whose executions ended.

        Raises UnavailableError; the next call stores then those that are not stored yet.
        """
        async with self._writing_last_runs:  # two writers could store the older value last
            last_runs, self._last_runs = list(self._last_runs.values()), {}
            try:
                while last_runs:
                    batch = last_runs[:LAST_RUNS_BATCH]
                    await write_in_parts(batch, self._note_last_runs, _drop_last_run)
                    last_runs = last_runs[LAST_RUNS_BATCH:]
            finally:  # after an outage, or if a hung round is cancelled
                later, self._last_runs = self._last_runs.values(), {}
                self._remember([*last_runs, *later])

    async def _note_last_runs(self, last_runs: Sequence[LastRun]) -> list[None]:
        try:
            await self._jobs.note_last_runs(last_runs)
        finally:
            self._cache.note_moved(last.owner_id for last in last_runs)
        return []

    def _remember(self, last_runs: Iterable[LastRun]) -> None:
        for last in last_runs:
            kept = self._last_runs.get(last.job_id)
            if kept is None or kept.scheduled_for <= last.scheduled_for:
                self._last_runs[last.job_id] = last

    async def _promote_and_wake(self, transitions: Sequence[Transition]) -> None:
        if any(one.status is ExecutionStatus.QUEUED for one in transitions):
            self._wake.wake_workers()
        # Also for `queued`: if a cancel was requested, the database has stored `cancelled` instead.
        job_ids = [
            one.execution.job_id for one in transitions if one.execution.live_for is not None
        ]
        if not job_ids:
            return
        try:
            await self._promote(job_ids)
        except UnavailableError:
            _log.warning("promotions_left_to_the_reaper", jobs=len(job_ids))

    async def _promote(self, job_ids: Sequence[str]) -> None:
        promoted = await self._promotions.promote(job_ids)
        for job_id in sorted(promoted):
            _log.info("execution_promoted", job_id=job_id)
        if promoted:
            self._wake.wake_workers()


async def _drop_last_run(last: LastRun, error: Exception) -> list[None]:
    """The fields are a hint, so one that the database rejects is only logged."""
    _log.error("last_run_not_stored", job_id=last.job_id, exc_info=error)
    return []


def _last_runs_of(transitions: Sequence[Transition]) -> list[LastRun]:
    return [
        LastRun(
            one.execution.job_id,
            one.execution.owner_id,
            one.execution.scheduled_for,
            one.status,
        )
        for one in transitions
        if one.status in FINAL_STATUSES
    ]
