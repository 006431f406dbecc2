"""The reaper: finds executions whose lease ran out, and settles them."""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from app.engine.loop import AT_ONCE
from app.models.execution import Execution, ExecutionStatus, Reason
from app.policies.retry import LEASE_EXPIRED, decide
from app.repositories.jobs import FoundJobs, JobRepository
from app.repositories.lease_fence import Lease
from app.repositories.leases import LeaseRepository
from app.repositories.settlements import Settlement
from app.services.completion import Completion, Transition

_log = structlog.get_logger(__name__)

_BATCH = 500
_MAX_INTERVAL = timedelta(seconds=4)
"""Below 5 s, because an execution must be taken over at most 5 s after its lease ran out."""


class Reaper:
    """Settles expired leases. Any number of reapers may run at once."""

    def __init__(
        self,
        *,
        jobs: JobRepository,
        leases: LeaseRepository,
        completion: Completion,
        term: timedelta,
    ) -> None:
        self._jobs = jobs
        self._leases = leases
        self._completion = completion
        self._interval = min(term / 4, _MAX_INTERVAL)

    async def tick(self) -> timedelta:
        """One round over at most 500 expired leases, and over one page of the jobs with waiting
        executions."""
        has_more_leases = await self._settle_expired()
        await self._leases.end_unclaimable(limit=_BATCH)
        await self._completion.write_last_runs()  # first, so that a failed promotion cannot stop it
        has_more_jobs = await self._completion.promote_jobs_without_live()
        return AT_ONCE if has_more_leases or has_more_jobs else self._interval

    async def _settle_expired(self) -> bool:
        """Settle one page of expired leases. Returns whether there may be more.

        Executions of jobs that a newer release wrote are left alone. If no execution of a page can
        be settled, it continues with the next page, so that they cannot hide the others.
        """
        skip = 0
        while True:
            page = await self._leases.list_expired(limit=_BATCH, skip=skip)
            settled = await self._settle_known(page.executions)
            if settled or not page.is_full:
                return page.is_full
            skip += page.left

    async def _settle_known(self, expired: Sequence[Execution]) -> int:
        if not expired:
            return 0
        jobs = await self._jobs.list_by_ids([execution.job_id for execution in expired])
        return await self._settle([e for e in expired if e.job_id not in jobs.newer], jobs)

    async def _settle(self, expired: Sequence[Execution], found: FoundJobs) -> int:
        """Returns how many it settled; others were renewed or settled meanwhile."""
        settlements = [_settlement(e, found) for e in expired]
        if not settlements:
            return 0
        won = await self._leases.settle_expired(settlements)
        ended = [
            Transition(execution, settlement.status)
            for execution, settlement, ok in zip(expired, settlements, won, strict=True)
            if ok
        ]
        for one in ended:
            _log.warning(
                "lease_expired",
                execution_id=one.execution.id,
                job_id=one.execution.job_id,
                lease_owner=one.execution.lease_owner,
                status=one.status,
            )
        await self._completion.follow_up(ended)
        return len(ended)


def _settlement(execution: Execution, found: FoundJobs) -> Settlement:
    lease = Lease(execution.id, execution.lease_token)
    attempts = execution.attempts
    outcome = LEASE_EXPIRED if attempts and attempts[-1].outcome is None else None
    if execution.job_id in found.unreadable:
        failed = ExecutionStatus.FAILED
        return Settlement(lease, failed, len(attempts), outcome, reason=Reason.UNREADABLE)
    job = found.jobs.get(execution.job_id)
    if job is None:
        cancelled = ExecutionStatus.CANCELLED
        return Settlement(lease, cancelled, len(attempts), outcome, reason=Reason.JOB_DELETED)
    if outcome is None:  # claimed, but no attempt was started
        return Settlement(lease, ExecutionStatus.QUEUED, len(attempts))
    decision = decide(outcome, job.retry, earlier=attempts[:-1], chance=0)
    return Settlement(lease, decision.status, len(attempts), outcome, delay=decision.delay)
