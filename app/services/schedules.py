"""Schedules as resources of their own: read, add, edit and delete one; look at what is to come."""

import heapq
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from app.errors import ConflictError, NotFoundError
from app.models.execution import Execution, ExecutionStatus
from app.models.idempotency import Reserved
from app.models.ids import NewId, is_id
from app.models.job import Job
from app.models.schedule import Schedule, begins_at, next_slot, runs_left, trigger_of
from app.models.user import Actor
from app.repositories.executions import ExecutionRepository
from app.repositories.jobs import JobRepository
from app.schemas.etags import ANY_REVISION, Revisions
from app.schemas.jobs import MAX_SCHEDULES, WantedSchedule
from app.schemas.schedules import (
    ComingSlot,
    Preview,
    ScheduleChange,
    ScheduleIn,
    Verdict,
    Why,
    WhyAnswer,
)
from app.services.job_changes import JobChange, with_schedules
from app.services.jobs import JobService
from app.services.schedule_changes import build_schedules
from app.triggers.preview import describe, notes_on, warnings_of

_MILLISECOND = timedelta(milliseconds=1)
_PAUSED = "The job is paused: nothing is to come until it is activated."


class ScheduleService:
    """Works on the schedules of an actor's jobs. Every method may raise UnavailableError, and
    NotFoundError where it takes an id."""

    def __init__(
        self,
        *,
        jobs: JobService,
        stored_jobs: JobRepository,
        executions: ExecutionRepository,
        new_id: NewId,
    ) -> None:
        self._jobs = jobs
        self._stored_jobs = stored_jobs
        self._executions = executions
        self._new_id = new_id

    async def list_of(self, actor: Actor, job_id: str) -> Job:
        """The job whose schedules are asked for."""
        return await self._jobs.get(actor, job_id)

    async def get(self, actor: Actor, schedule_id: str) -> tuple[Job, Schedule]:
        """A schedule and its job."""
        if not is_id(schedule_id):
            raise NotFoundError("There is no such schedule.")
        owner_id = actor.visible_owner_id
        job = await self._stored_jobs.get_by_schedule(schedule_id, owner_id=owner_id)
        return job, _of(job, schedule_id)

    async def add(
        self,
        actor: Actor,
        job_id: str,
        body: ScheduleIn,
        *,
        accepted: Revisions = ANY_REVISION,
        reserved: Reserved | None = None,
    ) -> tuple[Job, Schedule]:
        """Give the job one schedule more. Raises InvalidInputError, PreconditionError, and
        ConflictError when it has as many as it may."""
        new = body.model_copy(update={"id": None})
        schedule_id = reserved.result_id if reserved else self._new_id()
        if reserved is not None and reserved.again:
            job = await self._jobs.get(actor, job_id)
            if any(schedule.id == schedule_id for schedule in job.schedules):
                return job, _of(job, schedule_id)  # an earlier try of the same request has added it

        def change(job: Job, now: datetime) -> Job:
            if any(schedule.id == schedule_id for schedule in job.schedules):
                return job  # so has one that is still under way
            if len(job.schedules) >= MAX_SCHEDULES:
                raise ConflictError(f"A job has at most {MAX_SCHEDULES} schedules.")
            wanted = [WantedSchedule(new, "", {})]
            (built,) = build_schedules(wanted, (), now=now, new_id=lambda: schedule_id)
            return with_schedules(job, (*job.schedules, built), now)

        job = await self._jobs.rewrite(actor, job_id, change, accepted)
        return job, _of(job, schedule_id)

    async def edit(
        self,
        actor: Actor,
        schedule_id: str,
        body: ScheduleChange,
        *,
        accepted: Revisions = ANY_REVISION,
    ) -> tuple[Job, Schedule]:
        """Change what the body names; no slot is lost or added. Raises InvalidInputError and
        PreconditionError."""

        def change(job: Job, now: datetime) -> Job:
            present = _of(job, schedule_id)
            wanted = [WantedSchedule(body.applied_to(present), "", {})]
            (built,) = build_schedules(wanted, [present], now=now, new_id=self._new_id)
            schedules = tuple(built if s.id == schedule_id else s for s in job.schedules)
            return with_schedules(job, schedules, now)

        job = await self._rewrite(actor, schedule_id, change, accepted)
        return job, _of(job, schedule_id)

    async def delete(
        self, actor: Actor, schedule_id: str, *, accepted: Revisions = ANY_REVISION
    ) -> None:
        """Take the schedule away; what is queued or running of it goes on. Raises
        PreconditionError."""

        def change(job: Job, now: datetime) -> Job:
            _of(job, schedule_id)
            left = tuple(s for s in job.schedules if s.id != schedule_id)
            return with_schedules(job, left, now)

        await self._rewrite(actor, schedule_id, change, accepted)

    async def preview(self, body: ScheduleIn, count: int) -> Preview:
        """What a schedule would do that is not saved. Raises InvalidInputError."""
        now = await self._stored_jobs.now()
        wanted = [WantedSchedule(body.model_copy(update={"id": None}), "", {})]
        (schedule,) = build_schedules(wanted, (), now=now, new_id=self._new_id)
        trigger = trigger_of(schedule)
        after = schedule.start_at - _MILLISECOND if schedule.start_at else now
        return Preview(
            description=describe(trigger),
            warnings=warnings_of(trigger, jitter_seconds=schedule.jitter_seconds, now=now),
            next_runs=[
                _shown(schedule, slot, named=False)
                for slot in islice(_slots_after(schedule, after), count)
            ],
        )

    async def next_runs(self, actor: Actor, job_id: str, count: int) -> Preview:
        """The coming slots of all active schedules of a job, in order."""
        job = await self._jobs.get(actor, job_id)
        now = await self._stored_jobs.now()
        active = [s for s in job.schedules if s.active] if job.active else []
        coming = heapq.merge(
            *([(slot, n) for slot in islice(_to_come(s), count)] for n, s in enumerate(active))
        )
        warnings = [
            warning
            for s in active
            for warning in warnings_of(trigger_of(s), jitter_seconds=s.jitter_seconds, now=now)
        ]
        return Preview(
            description="; ".join(describe(trigger_of(s)) for s in job.schedules) or "Never",
            warnings=warnings if job.active else [_PAUSED],
            next_runs=[_shown(active[n], slot, named=True) for slot, n in islice(coming, count)],
        )

    async def why(self, actor: Actor, job_id: str, at: datetime) -> Why:
        """What became of the instant `at`, from the records of each present schedule."""
        job = await self._jobs.get(actor, job_id)
        now = await self._stored_jobs.now()
        answers = []
        for schedule in job.schedules:
            newest = await self._executions.find_newest_slot(schedule.id, at)
            answers.append(_why(schedule, newest, at, now))
        return Why(at=at, answers=answers)

    async def _rewrite(
        self, actor: Actor, schedule_id: str, change: JobChange, accepted: Revisions
    ) -> Job:
        job, _ = await self.get(actor, schedule_id)
        return await self._jobs.rewrite(actor, job.id, change, accepted)


def _of(job: Job, schedule_id: str) -> Schedule:
    for schedule in job.schedules:
        if schedule.id == schedule_id:
            return schedule
    raise NotFoundError("There is no such schedule.")


def _slots_after(schedule: Schedule, instant: datetime) -> Iterator[datetime]:
    """The schedule's slots after an instant, as many as `max_runs` still allows."""
    left = runs_left(schedule)
    slot = next_slot(schedule, instant)
    while slot is not None and left != 0:
        yield slot
        left = None if left is None else left - 1
        slot = next_slot(schedule, slot)


def _to_come(schedule: Schedule) -> Iterator[datetime]:
    if schedule.next_run is not None:
        yield from _slots_after(schedule, schedule.next_run - _MILLISECOND)


def _shown(schedule: Schedule, slot: datetime, *, named: bool) -> ComingSlot:
    zone = ZoneInfo(schedule.timezone)
    local = slot.astimezone(zone)
    return ComingSlot(
        schedule_id=schedule.id if named else None,
        utc=slot,
        local=local.isoformat(timespec="milliseconds" if slot.microsecond else "seconds"),
        offset=local.isoformat()[-6:],
        notes=notes_on(trigger_of(schedule), slot, zone),
    )


def _why(schedule: Schedule, newest: Execution | None, at: datetime, now: datetime) -> WhyAnswer:
    if newest is not None and newest.scheduled_for == at:
        return _recorded(schedule, newest)
    trigger = trigger_of(schedule)
    begin, end = begins_at(schedule), schedule.end_at
    is_slot = trigger.count(at, at) == 1
    if not is_slot or (begin is not None and at < begin) or (end is not None and at > end):
        return WhyAnswer(
            schedule_id=schedule.id,
            verdict=Verdict.NEVER_DUE,
            explanation="The schedule has no slot at this instant.",
            slot_before=trigger.last_until(at - _MILLISECOND),
            slot_after=trigger.next_after(at),
        )
    if newest is not None and newest.missed_until is not None and at <= newest.missed_until:
        return _recorded(schedule, newest)
    if at > now:
        return WhyAnswer(
            schedule_id=schedule.id,
            verdict=Verdict.PENDING,
            explanation="The slot is to come, if the schedule stays as it is and active.",
        )
    return WhyAnswer(
        schedule_id=schedule.id,
        verdict=Verdict.NOT_RECORDED,
        explanation="It is a slot of the schedule as it is now, but has no record: the schedule "
        "was paused, had another rule or did not exist then, or the record is too old.",
    )


def _recorded(schedule: Schedule, execution: Execution) -> WhyAnswer:
    missed = execution.status is ExecutionStatus.MISSED
    because = f", because of {execution.reason}" if execution.reason else ""
    explanation = f"The slot has an execution; it is {execution.status}{because}."
    if missed:
        explanation = (
            f"It is one of {execution.missed_count} slots that were not recorded in time and that "
            "the job's catch-up policy did not run."
        )
    return WhyAnswer(
        schedule_id=schedule.id,
        verdict=Verdict.MISSED if missed else Verdict.RECORDED,
        explanation=explanation,
        execution_id=execution.id,
        status=execution.status,
    )
