"""The reaper: finds executions whose lease ran out, and settles what their workers left."""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from app.engine.loop import AT_ONCE
from app.models.execution import FINAL_STATUSES, Execution, ExecutionStatus
from app.models.job import Job
from app.policies.retry import ABANDONED, decide
from app.repositories.jobs import Finish, JobRepository
from app.repositories.leases import Lease, LeaseRepository, Settlement
from app.repositories.overlaps import OverlapRepository
from app.wake import Wake

_log = structlog.get_logger(__name__)

_BATCH = 500
_LONGEST_INTERVAL = timedelta(seconds=4)
"""Takeover is promised within the lease and five seconds."""


class Reaper:
    """Settles expired leases. Any number of reapers may run at once."""

    def __init__(
        self,
        *,
        jobs: JobRepository,
        leases: LeaseRepository,
        overlaps: OverlapRepository,
        wake: Wake,
        lease: timedelta,
    ) -> None:
        self._overlaps = overlaps
        self._jobs = jobs
        self._leases = leases
        self._wake = wake
        self._interval = min(lease / 4, _LONGEST_INTERVAL)

    async def tick(self) -> timedelta:
        """One round over at most 500 expired leases, and over all that waits for nobody."""
        expired = await self._leases.list_expired(limit=_BATCH)
        if expired:
            await self._settle(expired)
        for job_id in await self._overlaps.list_deserted():
            if await self._overlaps.promote(job_id):
                _log.info("execution_promoted", job_id=job_id)
                self._wake.executions_queued()
        return AT_ONCE if len(expired) == _BATCH else self._interval

    async def _settle(self, expired: Sequence[Execution]) -> None:
        jobs = await self._jobs.find_many([execution.job_id for execution in expired])
        settlements = [_settlement(e, jobs.get(e.job_id)) for e in expired]
        won = await self._leases.settle_expired(settlements)
        settled = [
            (execution, settlement)
            for execution, settlement, ok in zip(expired, settlements, won, strict=True)
            if ok
        ]
        await self._tell(settled)

    async def _tell(self, settled: Sequence[tuple[Execution, Settlement]]) -> None:
        """Log what was settled, wake the workers and leave the hints on the jobs."""
        for execution, settlement in settled:
            _log.warning(
                "lease_expired",
                execution_id=execution.id,
                job_id=execution.job_id,
                lease_owner=execution.lease_owner,
                status=settlement.status,
            )
        self._wake.executions_queued()
        finishes = [
            Finish(execution.job_id, execution.scheduled_for, settlement.status)
            for execution, settlement in settled
            if settlement.status in FINAL_STATUSES
        ]
        if finishes:
            await self._jobs.note_finished(finishes)


def _settlement(execution: Execution, job: Job | None) -> Settlement:
    lease = Lease(execution.id, execution.lease_token)
    attempts = execution.attempts
    unfinished = attempts[-1] if attempts and attempts[-1].outcome is None else None
    attempt = None if unfinished is None else unfinished.number
    outcome = None if unfinished is None else ABANDONED
    if job is None:
        cancelled = ExecutionStatus.CANCELLED
        return Settlement(lease, cancelled, attempt, outcome, reason="job_deleted")
    if outcome is None:  # claimed, but never begun
        return Settlement(lease, ExecutionStatus.QUEUED)
    decision = decide(outcome, job.retry, earlier=attempts[:-1], chance=0)
    return Settlement(lease, decision.status, attempt, outcome, delay=decision.delay)
