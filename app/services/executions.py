"""Executions as their users ask for them: run a job now, read its history."""

from datetime import datetime
from typing import Any

from app.errors import NotFoundError
from app.models.execution import Execution, ExecutionKind, ExecutionStatus
from app.models.idempotency import Reserved
from app.models.ids import NewId, is_id
from app.models.policy import OverlapPolicy
from app.models.user import Actor
from app.repositories.executions import ExecutionFilter, ExecutionRepository, InsertResult
from app.repositories.jobs import JobRepository
from app.schemas.executions import ExecutionQuery
from app.schemas.pages import execution_cursor, read_execution_cursor
from app.services.listing import Listing, cut
from app.wake import Wake

OVERLAP = "overlap"
"""The reason of an execution that did not run because another of its job was live."""


class ExecutionService:
    """Reads and requests for an actor, who sees what `Actor.sees_only` says.

    Every method may raise UnavailableError, and NotFoundError where it takes an id.
    """

    def __init__(
        self,
        *,
        executions: ExecutionRepository,
        jobs: JobRepository,
        wake: Wake,
        new_id: NewId,
    ) -> None:
        self._executions = executions
        self._jobs = jobs
        self._wake = wake
        self._new_id = new_id

    async def run_now(
        self,
        actor: Actor,
        job_id: str,
        *,
        parameters: dict[str, Any] | None = None,
        overlap_policy: OverlapPolicy = OverlapPolicy.ALLOW_ALL,
        reserved: Reserved | None = None,
    ) -> Execution:
        """Queue a manual execution, of a paused job too.

        Under `skip`, while another one is live, it is recorded as skipped. One that has the
        reserved id already was stored by an earlier try: it is given as it stands.
        """
        job_id = _checked(job_id, "job")
        job = await self._jobs.get(job_id, owner_id=actor.sees_only)
        now = await self._jobs.now()
        execution = Execution(
            id=reserved.result_id if reserved else self._new_id(),
            job_id=job.id,
            owner_id=job.owner_id,
            kind=ExecutionKind.MANUAL,
            scheduled_for=now,
            run_at=now,
            status=ExecutionStatus.QUEUED,
            live_for=None if overlap_policy is OverlapPolicy.ALLOW_ALL else job.id,
            parameters=parameters,
            overlap_policy=overlap_policy,
            created_at=now,
        )
        result = await self._executions.insert(execution)
        if result is InsertResult.OVERLAP:
            execution = _skipped(execution, now)
            result = await self._executions.insert(execution)
        else:
            self._wake.executions_queued()
        if result is InsertResult.RECORDED:
            return await self._executions.get(execution.id, owner_id=job.owner_id)
        return execution

    async def get(self, actor: Actor, execution_id: str) -> Execution:
        """One execution, of a deleted job too."""
        execution_id = _checked(execution_id, "execution")
        return await self._executions.get(execution_id, owner_id=actor.sees_only)

    async def list_for_job(
        self, actor: Actor, job_id: str, query: ExecutionQuery
    ) -> Listing[Execution]:
        """A job's executions, the newest slot first.

        The history of a deleted job stays readable as long as there is any. Raises
        InvalidInputError for a cursor that is none.
        """
        wanted = ExecutionFilter(
            owner_id=actor.sees_only,
            job_id=_checked(job_id, "job"),
            statuses=frozenset(query.status) or None,
            since=query.since,
            until=query.until,
        )
        before = None if query.cursor is None else read_execution_cursor(query.cursor)
        found = await self._executions.list_executions(wanted, limit=query.limit + 1, before=before)
        if not found:
            await self._require_job_or_history(actor, job_id)
        return cut(found, query.limit, lambda e: execution_cursor(e.scheduled_for, e.id))

    async def _require_job_or_history(self, actor: Actor, job_id: str) -> None:
        history = ExecutionFilter(owner_id=actor.sees_only, job_id=job_id)
        if not await self._executions.list_executions(history, limit=1):
            await self._jobs.get(job_id, owner_id=actor.sees_only)


def _checked(text: str, kind: str) -> str:
    """`text`, if it has the form of an id; else it is answered like an unknown one."""
    if not is_id(text):
        raise NotFoundError(f"There is no such {kind}.")
    return text


def _skipped(execution: Execution, now: datetime) -> Execution:
    return execution.model_copy(
        update={
            "status": ExecutionStatus.SKIPPED,
            "reason": OVERLAP,
            "live_for": None,
            "finished_at": now,
        }
    )
