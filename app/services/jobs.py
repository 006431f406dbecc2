"""Jobs: create, read, edit, pause, resume, delete.

A write that changes when a job is due first fires the slots that are already due, so that no slot
is lost. Then it writes on the condition that the job has not changed since it was read.
"""

from datetime import datetime

from app.cache import Cache
from app.errors import BusyError, NotFoundError, PreconditionError, UnreadableDocumentError
from app.models.idempotency import ReservedId
from app.models.ids import NewId, is_id
from app.models.job import Job, PauseReason, differs_in_slots, fold
from app.models.user import THE_SERVICE, Actor
from app.receiver_addresses import AddressPolicy
from app.repositories.executions import ExecutionRepository
from app.repositories.job_listings import JobFilter
from app.repositories.jobs import JobRepository
from app.schemas.etags import ANY_REVISION, Revisions
from app.schemas.jobs import JobCreate, JobQuery, JobUpdate
from app.schemas.pages import ItemFields, Listing
from app.services import job_changes
from app.services.firing import Firing
from app.services.job_changes import JobChange
from app.services.job_revisions import JobRevisionService
from app.services.paging import cursor_after_job, read_job_page_start
from app.wake import Wake

_MAX_TRIES = 10
"""A try fails if a firing or another edit changes the job at the same time. A try that fires due
slots does not count: after an outage a job may have more slots than ten firings record."""


class JobService:
    """Reads and writes jobs for an actor, who sees the jobs of `Actor.visible_owner_id`.

    Every method may raise UnavailableError, and NotFoundError where it takes an id.
    """

    def __init__(
        self,
        *,
        jobs: JobRepository,
        executions: ExecutionRepository,
        revisions: JobRevisionService,
        firing: Firing,
        cache: Cache,
        wake: Wake,
        new_id: NewId,
        max_timeout_seconds: float,
        addresses: AddressPolicy,
    ) -> None:
        self._jobs = jobs
        self._executions = executions
        self._revisions = revisions
        self._firing = firing
        self._cache = cache
        self._wake = wake
        self._new_id = new_id
        self._max_timeout_seconds = max_timeout_seconds
        self._addresses = addresses

    async def create(
        self, actor: Actor, body: JobCreate, *, reserved: ReservedId | None = None, hops: int = 0
    ) -> Job:
        """Store a new job, with the reserved id if there is one. Raises InvalidInputError.

        If a job with the reserved id exists, an earlier try of the same request has stored it;
        this job is returned unchanged.
        """
        if reserved is not None and reserved.may_exist:
            found = await self._jobs.list_by_ids([reserved.result_id])
            if reserved.result_id in found.jobs:
                return found.jobs[reserved.result_id]
        job = job_changes.build_job(actor, body, now=await self._jobs.now(), new_id=self._new_id)
        job = job.model_copy(update={"hops": hops})
        job_changes.check_timeout(job, self._max_timeout_seconds)
        job_changes.check_target(job, self._addresses)
        if reserved is not None:
            job = job.model_copy(update={"id": reserved.result_id})
        try:
            inserted = await self._jobs.insert(job)
        finally:
            await self._announce(job)
        return job if inserted else await self.get(actor, job.id)

    async def get(self, actor: Actor, job_id: str) -> Job:
        """One job, read from the database."""
        if not is_id(job_id):
            raise NotFoundError.of("job")
        return await self._jobs.get(job_id, owner_id=actor.visible_owner_id)

    async def list_jobs(self, actor: Actor, query: JobQuery) -> Listing[Job]:
        """A page of jobs. Partial ones are read without their large fields.

        Raises InvalidInputError for a cursor of another query.
        """
        wanted = JobFilter(
            owner_id=actor.visible_owner_id,
            active=query.active,
            tag=query.tag,
            target_type=query.target_type,
            last_status=query.status,
            folded_prefix=None if query.q is None else fold(query.q),
        )
        page = await self._jobs.list_jobs(
            wanted,
            limit=query.limit,
            start=read_job_page_start(query),
            partial=query.fields is ItemFields.PARTIAL,
        )
        return Listing(page.records, page.has_more, lambda job: cursor_after_job(job, query))

    async def edit(
        self,
        actor: Actor,
        job_id: str,
        body: JobUpdate,
        *,
        accepted: Revisions = ANY_REVISION,
        hops: int = 0,
    ) -> Job:
        """Change the fields that the body names, if the present revision is accepted.

        Raises InvalidInputError, ConflictError and PreconditionError.
        """

        def change(job: Job, now: datetime) -> Job:
            job = job_changes.raise_hops(job, hops)
            changed = job_changes.edit(job, body, now=now, new_id=self._new_id)
            job_changes.check_timeout(changed, self._max_timeout_seconds, before=job)
            job_changes.check_target(changed, self._addresses, before=job)
            return changed

        return await self.rewrite(actor, job_id, change, accepted)

    async def resume(self, actor: Actor, job_id: str, *, accepted: Revisions = ANY_REVISION) -> Job:
        """Slots that passed while the job was paused are not executed. Raises PreconditionError
        and BusyError."""
        return await self.rewrite(actor, job_id, job_changes.resume, accepted)

    async def pause(self, actor: Actor, job_id: str, *, accepted: Revisions = ANY_REVISION) -> Job:
        """Queued and running executions continue. Raises PreconditionError and BusyError."""
        return await self.rewrite(actor, job_id, job_changes.pause, accepted)

    async def pause_for_gone_receiver(self, job: Job) -> bool:
        """Pause a job whose receiver returned 410. `job` is the job at the start of the attempt.

        Returns whether the job is paused because its receiver is gone. False if a user has paused,
        edited or deleted it since: a later change of a user takes precedence.
        """
        try:
            paused = await self.rewrite(
                THE_SERVICE,
                job.id,
                lambda job, now: job_changes.pause(job, now, PauseReason.GONE),
                Revisions(frozenset({job.revision})),
            )
        except (NotFoundError, PreconditionError, UnreadableDocumentError):
            return False
        return paused.pause_reason is PauseReason.GONE

    async def delete(
        self, actor: Actor, job_id: str, *, accepted: Revisions = ANY_REVISION
    ) -> None:
        """Delete the job and cancel its queued and running executions. Its history stays.
        Workers cancel those that are too many for a request.

        A job that cannot be read is deleted too; slots of it that are due are not fired. Raises
        PreconditionError and BusyError.
        """
        tries = 0
        while tries < _MAX_TRIES:
            tries += 1
            try:
                job = await self.get(actor, job_id)
            except UnreadableDocumentError:
                await self._delete_unread(actor, job_id, accepted)
                return
            accepted.check(job.revision)
            now = await self._jobs.now()
            if _is_due(job, now):
                if await self._fire(job, now):
                    tries -= 1  # progress is not a failed try
                continue
            await self._revisions.keep(job, now)
            try:
                deleted = await self._jobs.delete(job)
            finally:
                await self._announce(job)
            if deleted:
                await self._executions.cancel_for_deleted_job(job.id)
                return
        raise _busy_error()

    async def _delete_unread(self, actor: Actor, job_id: str, accepted: Revisions) -> None:
        job = await self._jobs.get_unread(job_id, owner_id=actor.visible_owner_id)
        accepted.check(job.revision)
        try:
            await self._jobs.delete_unread(job)
        finally:
            await self._cache.invalidate(job.owner_id)
        await self._executions.cancel_for_deleted_job(job.id)

    async def rewrite(
        self,
        actor: Actor,
        job_id: str,
        change: JobChange,
        accepted: Revisions = ANY_REVISION,
    ) -> Job:
        """Read the job, check its revision, change it and store it. Start again if the job has
        changed in between, because the write replaces only the revision that was checked.

        Raises PreconditionError and BusyError.
        """
        tries = 0
        while tries < _MAX_TRIES:
            tries += 1
            job = await self.get(actor, job_id)
            accepted.check(job.revision)
            now = await self._jobs.now()
            changed = change(job, now)
            if changed is job:
                return job
            if differs_in_slots(job, changed) and _is_due(job, now):
                if await self._fire(job, now):
                    tries -= 1  # progress is not a failed try
                continue
            changed = await self._start_after_decided(job, changed)
            changed = changed.model_copy(update={"revision": job.revision + 1, "updated_at": now})
            await self._revisions.keep(job, now)
            try:
                stored = await self._jobs.replace(changed, expected=job)
            finally:
                await self._announce(job)
            if stored:
                return changed
        raise _busy_error()

    async def _start_after_decided(self, job: Job, changed: Job) -> Job:
        """Return the job with each new `next_run` after the last slot of its schedule that has a
        record. Such a slot is in the future only if the clock of the database has jumped back."""
        stored = {schedule.id: schedule.next_run for schedule in job.schedules}
        restarted = [
            s.id
            for s in changed.schedules
            if s.id in stored and s.next_run not in (None, stored[s.id])
        ]
        if not restarted:
            return changed
        decided = await self._executions.list_newest_slots(restarted)
        return job_changes.start_after(changed, decided)

    async def _fire(self, job: Job, now: datetime) -> int:
        """Fire the due slots of the job, and drop the cached responses: the write that follows may
        fail, and a process that serves only the API has no loop that drops them."""
        try:
            return await self._firing.fire([job], now)
        finally:
            await self._cache.invalidate(job.owner_id)

    async def _announce(self, job: Job) -> None:
        """Tell the cache and the schedulers about a write, also if its result is unknown."""
        await self._cache.invalidate(job.owner_id)
        self._wake.wake_schedulers()


def _is_due(job: Job, now: datetime) -> bool:
    """Whether slots must be fired before the job is changed. Then it must be read again."""
    return job.next_run is not None and job.next_run <= now


def _busy_error() -> BusyError:
    return BusyError(
        "The job was changed by other requests each time it was to be written; try again."
    )
