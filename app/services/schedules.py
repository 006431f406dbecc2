"""Schedules one by one: read, add, edit and delete a schedule of a job."""

from datetime import datetime

from app.errors import ConflictError, NotFoundError
from app.models.idempotency import ReservedId
from app.models.ids import NewId, is_id
from app.models.job import Job
from app.models.schedule import MAX_SCHEDULES, Schedule
from app.models.user import Actor
from app.repositories.jobs import JobRepository
from app.schemas.etags import ANY_REVISION, Revisions
from app.schemas.schedules import ScheduleChange, ScheduleIn
from app.schemas.schedules_to_write import read_new_schedule, read_schedule_edit
from app.services.job_changes import JobChange, raise_hops, replace_schedules
from app.services.jobs import JobService
from app.services.schedule_changes import build_schedules


class ScheduleService:
    """Reads and writes the schedules of an actor's jobs.

    Every method may raise UnavailableError and NotFoundError.
    """

    def __init__(self, *, job_service: JobService, jobs: JobRepository, new_id: NewId) -> None:
        self._job_service = job_service
        self._jobs = jobs
        self._new_id = new_id

    async def get(self, actor: Actor, schedule_id: str) -> tuple[Job, Schedule]:
        """A schedule and its job."""
        if not is_id(schedule_id):
            raise NotFoundError.of("schedule")
        owner_id = actor.visible_owner_id
        job = await self._jobs.get_by_schedule(schedule_id, owner_id=owner_id)
        return job, _get_schedule(job, schedule_id)

    async def add(
        self,
        actor: Actor,
        job_id: str,
        body: ScheduleIn,
        *,
        accepted: Revisions = ANY_REVISION,
        reserved: ReservedId | None = None,
        hops: int = 0,
    ) -> tuple[Job, Schedule]:
        """Add a schedule to the job. Raises InvalidInputError, PreconditionError, and ConflictError
        if the job has the maximum number of schedules.

        If the job has a schedule with the reserved id, an earlier try of the same request has added
        it; the job stays unchanged.
        """
        to_write = read_new_schedule(body)
        schedule_id = reserved.result_id if reserved else self._new_id()
        if reserved is not None and reserved.may_exist:
            job = await self._job_service.get(actor, job_id)
            if _has_schedule(job, schedule_id):
                return job, _get_schedule(job, schedule_id)

        def change(job: Job, now: datetime) -> Job:
            if _has_schedule(job, schedule_id):  # the earlier try may end after the check above
                return job
            if len(job.schedules) >= MAX_SCHEDULES:
                raise ConflictError(
                    f"A job has at most {MAX_SCHEDULES} schedules; delete one or create another "
                    "job."
                )
            (added,) = build_schedules([to_write], (), now=now, new_id=lambda: schedule_id)
            job = raise_hops(job, hops)
            return replace_schedules(job, (*job.schedules, added), now)

        job = await self._job_service.rewrite(actor, job_id, change, accepted)
        return job, _get_schedule(job, schedule_id)

    async def edit(
        self,
        actor: Actor,
        schedule_id: str,
        body: ScheduleChange,
        *,
        accepted: Revisions = ANY_REVISION,
        hops: int = 0,
    ) -> tuple[Job, Schedule]:
        """Change the fields that the body names.

        Slots that are already due are recorded first. If the rule stays the same, `next_run` stays
        the same. Raises InvalidInputError, PreconditionError and BusyError.
        """

        def change(job: Job, now: datetime) -> Job:
            present = _get_schedule(job, schedule_id)
            to_write = read_schedule_edit(body, present)
            (changed,) = build_schedules([to_write], [present], now=now, new_id=self._new_id)
            schedules = tuple(changed if s.id == schedule_id else s for s in job.schedules)
            return replace_schedules(raise_hops(job, hops), schedules, now)

        job = await self._rewrite(actor, schedule_id, change, accepted)
        return job, _get_schedule(job, schedule_id)

    async def delete(
        self, actor: Actor, schedule_id: str, *, accepted: Revisions = ANY_REVISION
    ) -> None:
        """Delete the schedule. Its queued and running executions continue. Raises
        PreconditionError and BusyError."""

        def change(job: Job, now: datetime) -> Job:
            deleted = _get_schedule(job, schedule_id)
            remaining = tuple(s for s in job.schedules if s.id != deleted.id)
            return replace_schedules(job, remaining, now)

        await self._rewrite(actor, schedule_id, change, accepted)

    async def _rewrite(
        self, actor: Actor, schedule_id: str, change: JobChange, accepted: Revisions
    ) -> Job:
        job, _ = await self.get(actor, schedule_id)
        return await self._job_service.rewrite(actor, job.id, change, accepted)


def _has_schedule(job: Job, schedule_id: str) -> bool:
    return any(schedule.id == schedule_id for schedule in job.schedules)


def _get_schedule(job: Job, schedule_id: str) -> Schedule:
    for schedule in job.schedules:
        if schedule.id == schedule_id:
            return schedule
    raise NotFoundError.of("schedule")
