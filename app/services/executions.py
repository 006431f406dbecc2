"""Executions at a user's request: execute, retry, cancel, get and list."""

from datetime import datetime
from typing import Any

from app.errors import BusyError, ConflictError, NotFoundError, UnreadableDocumentError
from app.models.execution import (
    FINAL_STATUSES,
    Execution,
    ExecutionKind,
    ExecutionStatus,
    Reason,
)
from app.models.idempotency import ReservedId
from app.models.ids import NewId, is_id
from app.models.policy import OverlapPolicy
from app.models.user import Actor
from app.repositories.execution_listings import ExecutionFilter
from app.repositories.executions import ExecutionRepository, InsertResult
from app.repositories.jobs import JobRepository
from app.schemas.executions import AllExecutionsQuery, ExecutionQuery
from app.schemas.pages import ItemFields, Listing
from app.services.admission import Admission
from app.services.completion import Completion, Transition
from app.services.job_revisions import JobRevisionService
from app.services.paging import cursor_after_execution, read_execution_page_start
from app.wake import Wake

_MAX_TRIES = 5  # a try fails if the status of the execution changes in between


class ExecutionService:
    """Reads and requests for an actor, who sees what `Actor.visible_owner_id` says.

    Every method may raise UnavailableError, and NotFoundError where it takes an id.
    """

    def __init__(
        self,
        *,
        executions: ExecutionRepository,
        jobs: JobRepository,
        revisions: JobRevisionService,
        admission: Admission,
        completion: Completion,
        wake: Wake,
        new_id: NewId,
    ) -> None:
        self._executions = executions
        self._jobs = jobs
        self._revisions = revisions
        self._admission = admission
        self._completion = completion
        self._wake = wake
        self._new_id = new_id

    async def execute(
        self,
        actor: Actor,
        job_id: str,
        *,
        parameters: dict[str, Any] | None = None,
        overlap_policy: OverlapPolicy = OverlapPolicy.ALLOW_ALL,
        reserved: ReservedId | None = None,
        hops: int = 0,
    ) -> Execution:
        """Queue a manual execution, subject to the overlap policy. The job may be paused."""
        job_id = _check_id(job_id, "job")
        job = await self._jobs.get(job_id, owner_id=actor.visible_owner_id)
        now = await self._jobs.now()
        execution = Execution.queue(
            reserved.result_id if reserved else self._new_id(),
            job_id=job.id,
            owner_id=job.owner_id,
            kind=ExecutionKind.MANUAL,
            scheduled_for=now,
            run_at=now,
            policy=overlap_policy,
            now=now,
            parameters=parameters,
            hops=max(hops, job.hops),
        )
        return await self._admit(execution, overlap_policy, now)

    async def retry(
        self,
        actor: Actor,
        execution_id: str,
        *,
        parameters: dict[str, Any] | None = None,
        overlap_policy: OverlapPolicy = OverlapPolicy.ALLOW_ALL,
        reserved: ReservedId | None = None,
        hops: int = 0,
    ) -> Execution:
        """Queue a new execution for the slot of a finished execution.

        It has the same parameters, unless `parameters` is given. Raises ConflictError if the
        execution is not finished or counts several missed slots, or if its job was deleted.
        """
        original = await self._get(actor, execution_id)
        if original.status not in FINAL_STATUSES:
            raise ConflictError("This execution has not ended yet; cancel it, or wait for its end.")
        if (original.missed_count or 1) > 1:
            raise ConflictError("This record counts several missed slots; use a backfill for them.")
        found = await self._jobs.list_by_ids([original.job_id])
        if original.job_id in found.unreadable:
            raise UnreadableDocumentError.of("job", original.job_id)
        if original.job_id not in found.jobs and original.job_id not in found.newer:
            raise ConflictError("The job of this execution was deleted; there is nothing to run.")
        now = await self._jobs.now()
        execution = Execution.queue(
            reserved.result_id if reserved else self._new_id(),
            job_id=original.job_id,
            owner_id=original.owner_id,
            kind=ExecutionKind.RETRY,
            scheduled_for=original.scheduled_for,
            run_at=now,
            policy=overlap_policy,
            now=now,
            parameters=original.parameters if parameters is None else parameters,
            retry_of=original.id,
            schedule_id=original.schedule_id,
            hops=max(hops, original.hops),
        )
        return await self._admit(execution, overlap_policy, now)

    async def cancel(self, actor: Actor, execution_id: str) -> Execution:
        """Cancel an execution: a queued one immediately, a running one within about two seconds.

        An execution that is already cancelled is returned unchanged. Raises ConflictError if it
        has another final status.
        """
        for _ in range(_MAX_TRIES):
            execution = await self._get(actor, execution_id)
            if execution.status is ExecutionStatus.CANCELLED:
                return await self._revisions.add_parameters(execution)
            if execution.status in FINAL_STATUSES:
                raise ConflictError(f"This execution has ended: it is {execution.status}.")
            if await self._try_cancel(execution):
                return await self.get(actor, execution_id)
        raise BusyError("The execution changes too often to be cancelled just now; try again.")

    async def _try_cancel(self, execution: Execution) -> bool:
        """Return whether the execution is cancelled or asked to stop.

        False if its status changed in between.
        """
        reason = Reason.CANCELLED_BY_USER
        if execution.status is ExecutionStatus.RUNNING:
            asked = execution.cancel_requested_at is not None
            return asked or await self._executions.request_cancel(execution.id, reason=reason)
        if not await self._executions.cancel_queued(execution.id, reason=reason):
            return False
        cancelled = Transition(execution, ExecutionStatus.CANCELLED)
        await self._completion.follow_up_request([cancelled])
        return True

    async def _admit(self, execution: Execution, policy: OverlapPolicy, now: datetime) -> Execution:
        """Insert a new execution as its policy allows, and return it as stored. If an earlier
        call of the same request stored one with its id, return that."""
        result = await self._admission.admit(execution, policy, now)
        self._wake.wake_workers()
        if result is InsertResult.INSERTED:
            return execution
        stored = await self._executions.get(execution.id, owner_id=execution.owner_id)
        return await self._revisions.add_parameters(stored)

    async def get(self, actor: Actor, execution_id: str) -> Execution:
        """One execution, also of a deleted job, with the parameters that it has sent."""
        return await self._revisions.add_parameters(await self._get(actor, execution_id))

    async def _get(self, actor: Actor, execution_id: str) -> Execution:
        """One execution as stored: it has parameters only in place of the job's."""
        execution_id = _check_id(execution_id, "execution")
        return await self._executions.get(execution_id, owner_id=actor.visible_owner_id)

    async def list_for_job(
        self, actor: Actor, job_id: str, query: ExecutionQuery
    ) -> Listing[Execution]:
        """A job's executions, the newest slot first.

        The history of a deleted job stays readable until retention deletes it. Raises
        InvalidInputError for an invalid cursor.
        """
        listing = await self._list(_filter(actor, query, _check_id(job_id, "job")), query)
        if not listing.items:
            await self._require_job_or_history(actor, job_id)
        return listing

    async def list_all(self, actor: Actor, query: AllExecutionsQuery) -> Listing[Execution]:
        """Executions of all jobs, the newest slot first. Raises InvalidInputError for an invalid
        cursor."""
        return await self._list(_filter(actor, query, query.job_id), query)

    async def _list(self, wanted: ExecutionFilter, query: ExecutionQuery) -> Listing[Execution]:
        page = await self._executions.list_executions(
            wanted,
            limit=query.limit,
            before=read_execution_page_start(query),
            partial=query.fields is ItemFields.PARTIAL,
        )
        listing = Listing(page.records, page.has_more, lambda e: cursor_after_execution(e, query))
        if query.fields is ItemFields.PARTIAL:
            return listing
        return await self._revisions.add_parameters_to_page(listing)

    async def _require_job_or_history(self, actor: Actor, job_id: str) -> None:
        history = ExecutionFilter(owner_id=actor.visible_owner_id, job_id=job_id)
        page = await self._executions.list_executions(history, limit=1, partial=True)
        if not page.records:
            await self._jobs.get(job_id, owner_id=actor.visible_owner_id)


def _filter(actor: Actor, query: ExecutionQuery, job_id: str | None) -> ExecutionFilter:
    return ExecutionFilter(
        owner_id=actor.visible_owner_id,
        job_id=job_id,
        kind=query.kind,
        statuses=frozenset(query.status) or None,
        since=query.since,
        until=query.until,
    )


def _check_id(text: str, kind: str) -> str:
    """Return `text` if it has the form of an id. Another text is treated as an unknown id."""
    if not is_id(text):
        raise NotFoundError.of(kind)
    return text
