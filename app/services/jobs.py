"""Jobs as their users write them: create, edit, pause, resume, delete.

A write that changes when a job is due first fires what is due by then, so that no slot is lost,
and then writes on the condition that nobody else changed the job meanwhile.
"""

from datetime import datetime

from app.cache import Cache
from app.errors import ConflictError, NotFoundError
from app.models.ids import NewId, is_id
from app.models.job import Job
from app.models.user import Actor
from app.repositories.executions import ExecutionRepository
from app.repositories.jobs import JobFilter, JobRepository
from app.schemas.jobs import JobCreate, JobQuery, JobUpdate
from app.schemas.pages import job_cursor, read_job_cursor
from app.services.firing import Firing
from app.services.job_changes import JobChange, edited, new_job, paused, resumed
from app.services.listing import Listing, cut
from app.wake import Wake

_MOST_TRIES = 10  # each lost to a firing or another edit of the same job


class JobService:
    """Reads and writes of jobs for an actor, who sees what `Actor.sees_only` says.

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

    async def create(self, actor: Actor, body: JobCreate) -> Job:
        """Store a new job. Raises InvalidInputError."""
        job = new_job(actor, body, now=await self._jobs.now(), new_id=self._new_id)
        try:
            await self._jobs.insert(job)
        finally:
            await self._announce(job)
        return job

    async def get(self, actor: Actor, job_id: str) -> Job:
        """One job, as the database has it."""
        if not is_id(job_id):
            raise NotFoundError("There is no such job.")
        return await self._jobs.get(job_id, owner_id=actor.sees_only)

    async def list_jobs(self, actor: Actor, query: JobQuery) -> Listing[Job]:
        """The newest jobs first. Raises InvalidInputError for a cursor that is none."""
        wanted = JobFilter(
            owner_id=actor.sees_only,
            active=query.active,
            tag=query.tag,
            target_type=query.target_type,
            last_status=query.status,
        )
        before_id = None if query.cursor is None else read_job_cursor(query.cursor)
        found = await self._jobs.list_jobs(wanted, limit=query.limit + 1, before_id=before_id)
        return cut(found, query.limit, lambda job: job_cursor(job.id))

    async def edit(self, actor: Actor, job_id: str, body: JobUpdate) -> Job:
        """Change what the body names. Raises InvalidInputError and ConflictError."""

        def change(job: Job, now: datetime) -> Job:
            return edited(job, body, now=now, new_id=self._new_id)

        return await self._rewrite(actor, job_id, change)

    async def activate(self, actor: Actor, job_id: str) -> Job:
        """Resume: nothing that passed while the job was paused runs."""
        return await self._rewrite(actor, job_id, resumed)

    async def deactivate(self, actor: Actor, job_id: str) -> Job:
        """Pause: what is queued or running goes on."""
        return await self._rewrite(actor, job_id, paused)

    async def delete(self, actor: Actor, job_id: str) -> None:
        """Delete the job and cancel what is queued or running; its history stays."""
        for _ in range(_MOST_TRIES):
            job = await self.get(actor, job_id)
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

    async def _rewrite(self, actor: Actor, job_id: str, change: JobChange) -> Job:
        for _ in range(_MOST_TRIES):
            job = await self.get(actor, job_id)
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


def _too_busy() -> ConflictError:
    return ConflictError("The job changes too often to be written just now; try again.")
