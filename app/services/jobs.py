"""Jobs as their users write them: create, edit, pause, resume, delete.

A write that changes when a job is due first fires what is due by then, so that no slot is lost,
and then writes on the condition that nobody else changed the job meanwhile.
"""

from datetime import datetime

from app.cache import Cache
from app.errors import BusyError, NotFoundError, PreconditionError
from app.models.idempotency import Reserved
from app.models.ids import NewId, is_id
from app.models.job import Job, PauseReason, fold
from app.models.user import THE_SERVICE, Actor
from app.repositories.executions import ExecutionRepository
from app.repositories.jobs import JobFilter, JobRepository
from app.schemas.etags import ANY_REVISION, Revisions
from app.schemas.jobs import JobCreate, JobQuery, JobUpdate
from app.services.firing import Firing
from app.services.job_changes import JobChange, edited, new_job, paused, resumed
from app.services.job_order import cursor_after, order_of
from app.services.listing import Listing, cut
from app.wake import Wake

_MOST_TRIES = 10  # each lost to a firing or another edit of the same job


class JobService:
    """Reads and writes of jobs for an actor, who sees what `Actor.visible_owner_id` says.

    Every method may raise UnavailableError, and NotFoundError where it takes an id.
    """

    def __init__(
        self,
        *,
        jobs: JobRepository,
        executions: ExecutionRepository,
        firing: Firing,
        cache: Cache,
        wake: Wake,
        new_id: NewId,
    ) -> None:
        self._jobs = jobs
        self._executions = executions
        self._firing = firing
        self._cache = cache
        self._wake = wake
        self._new_id = new_id

    async def create(
        self, actor: Actor, body: JobCreate, *, reserved: Reserved | None = None
    ) -> Job:
        """Store a new job, with the reserved id if there is one. Raises InvalidInputError.

        A job that has the reserved id already was stored by an earlier try of the same request:
        it is given as it stands.
        """
        if reserved is not None and reserved.again:
            found = await self._jobs.find_many([reserved.result_id])
            if found:
                return found[reserved.result_id]
        job = new_job(actor, body, now=await self._jobs.now(), new_id=self._new_id)
        if reserved is not None:
            job = job.model_copy(update={"id": reserved.result_id})
        try:
            inserted = await self._jobs.insert(job)
        finally:
            await self._announce(job)
        return job if inserted else await self.get(actor, job.id)

    async def get(self, actor: Actor, job_id: str) -> Job:
        """One job, as the database has it."""
        if not is_id(job_id):
            raise NotFoundError("There is no such job.")
        return await self._jobs.get(job_id, owner_id=actor.visible_owner_id)

    async def list_jobs(self, actor: Actor, query: JobQuery) -> Listing[Job]:
        """A page of jobs. Raises InvalidInputError for a cursor that is not of this query."""
        wanted = JobFilter(
            owner_id=actor.visible_owner_id,
            active=query.active,
            tag=query.tag,
            target_type=query.target_type,
            last_status=query.status,
            folded_prefix=None if query.q is None else fold(query.q),
        )
        order = order_of(query)
        found = await self._jobs.list_jobs(wanted, limit=query.limit + 1, order=order)
        return cut(found, query.limit, lambda job: cursor_after(job, query))

    async def edit(
        self,
        actor: Actor,
        job_id: str,
        body: JobUpdate,
        *,
        accepted: Revisions = ANY_REVISION,
    ) -> Job:
        """Change what the body names, if the present revision is accepted.

        Raises InvalidInputError, ConflictError and PreconditionError.
        """

        def change(job: Job, now: datetime) -> Job:
            return edited(job, body, now=now, new_id=self._new_id)

        return await self.rewrite(actor, job_id, change, accepted)

    async def activate(
        self, actor: Actor, job_id: str, *, accepted: Revisions = ANY_REVISION
    ) -> Job:
        """Resume: nothing that passed while the job was paused runs. Raises PreconditionError."""
        return await self.rewrite(actor, job_id, resumed, accepted)

    async def deactivate(
        self, actor: Actor, job_id: str, *, accepted: Revisions = ANY_REVISION
    ) -> Job:
        """Pause: what is queued or running goes on. Raises PreconditionError."""
        return await self.rewrite(actor, job_id, paused, accepted)

    async def pause_gone(self, job: Job) -> bool:
        """Pause a job whose receiver said 410, as it was when the attempt began.

        False where it was paused already, and where somebody has edited or deleted it since: what
        they made of it stands.
        """
        try:
            written = await self.rewrite(
                THE_SERVICE,
                job.id,
                lambda job, now: paused(job, now, PauseReason.GONE),
                Revisions(frozenset({job.revision})),
            )
        except (NotFoundError, PreconditionError):
            return False
        return written.pause_reason is PauseReason.GONE

    async def delete(
        self, actor: Actor, job_id: str, *, accepted: Revisions = ANY_REVISION
    ) -> None:
        """Delete the job and cancel what is queued or running; its history stays.

        Raises PreconditionError.
        """
        for _ in range(_MOST_TRIES):
            job = await self.get(actor, job_id)
            accepted.check(job.revision)
            now = await self._jobs.now()
            if await self._fired(job, now):
                continue
            try:
                deleted = await self._jobs.delete(job)
            finally:
                await self._announce(job)
            if deleted:
                await self._executions.cancel_for_deleted_job(job.id)
                return
        raise _too_busy()

    async def rewrite(
        self,
        actor: Actor,
        job_id: str,
        change: JobChange,
        accepted: Revisions = ANY_REVISION,
    ) -> Job:
        """Read, check, change and compare-and-set, until no race is lost.

        `replace` writes only over the very revision that was checked.
        """
        for _ in range(_MOST_TRIES):
            job = await self.get(actor, job_id)
            accepted.check(job.revision)
            now = await self._jobs.now()
            changed = change(job, now)
            if changed is job:
                return job
            if _slots_differ(job, changed) and await self._fired(job, now):
                continue
            changed = changed.model_copy(update={"revision": job.revision + 1, "updated_at": now})
            try:
                stored = await self._jobs.replace(changed, expected=job)
            finally:
                await self._announce(job)
            if stored:
                return changed
        raise _too_busy()

    async def _fired(self, job: Job, now: datetime) -> bool:
        """Fire what is due; whether there was any, so that the job must be read again."""
        if job.next_run is None or job.next_run > now:
            return False
        await self._firing.fire([job], now)
        return True

    async def _announce(self, job: Job) -> None:
        """After a write, also one whose outcome is unknown."""
        await self._cache.forget(job.owner_id)
        self._wake.schedules_changed()


def _slots_differ(before: Job, after: Job) -> bool:
    return before.active != after.active or before.schedules != after.schedules


def _too_busy() -> BusyError:
    return BusyError("The job changes too often to be written just now; try again.")
