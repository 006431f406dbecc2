"""Firing: inserts execution records for due slots, and only then advances `next_run`.

The scheduler loop fires what is due, and so does a user's write that changes when a job is due.
A crash after any write neither loses a slot nor records it twice: the slot index makes a second
record impossible, and a `next_run` that was not advanced makes the slot due again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfoNotFoundError

import structlog

from app.clock import Clock
from app.errors import InvalidInputError
from app.models.execution import Execution, ExecutionKind, ExecutionStatus, Reason
from app.models.ids import NewId
from app.models.job import Job, earliest_next_run
from app.models.policy import OverlapPolicy
from app.models.schedule import Schedule, next_slot, runs_left
from app.policies import catch_up
from app.policies.catch_up import LATE_START_INTERVAL, MissedSpan, Plan
from app.policies.jitter import jitter
from app.repositories.executions import ExecutionRepository, InsertResult
from app.repositories.jobs import JobRepository
from app.services.admission import Admission
from app.wake import Wake

_log = structlog.get_logger(__name__)

STALE_AFTER = timedelta(seconds=30)
"""A batch that was read longer ago is dropped: if the process was frozen for more than a day,
retention may have deleted the records that prevent a second execution of a slot."""

_CHUNK = 1_000  # execution records in memory and in one insert
_MAX_DECISIONS = 50
"""Limit of plans for one schedule in one firing. The next firing continues."""


@dataclass(slots=True)
class _DueSchedule:
    """One schedule of a job while it is fired."""

    job: Job
    schedule: Schedule
    plan: Plan
    executions: list[Execution] = field(default_factory=list)


class Firing:
    """Fires due jobs. Any number of processes may fire the same job at once."""

    def __init__(
        self,
        *,
        jobs: JobRepository,
        executions: ExecutionRepository,
        admission: Admission,
        wake: Wake,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._jobs = jobs
        self._executions = executions
        self._admission = admission
        self._wake = wake
        self._clock = clock
        self._new_id = new_id

    async def fire(
        self, jobs: Sequence[Job], now: datetime, *, read_at: float | None = None
    ) -> int:
        """Record every slot of `jobs` up to the database's `now`. Returns the number of advanced
        jobs.

        `read_at` is when the jobs were read, on the monotonic clock; None means just now.
        Raises UnavailableError; the records that were stored before stay, and the next call
        continues.
        """
        read_at = self._clock.monotonic() if read_at is None else read_at
        advanced, due, size = 0, list[_DueSchedule](), 0
        for job in jobs:
            for schedule in job.schedules:
                if schedule.active and schedule.next_run is not None and schedule.next_run <= now:
                    one = await self._decide_or_stop(job, schedule, now)
                    due.append(one)
                    size += len(one.executions)
            if size >= _CHUNK:
                advanced += await self._record(due, now, read_at)
                due, size = [], 0
        return advanced + await self._record(due, now, read_at)

    async def _decide_or_stop(self, job: Job, schedule: Schedule, now: datetime) -> _DueSchedule:
        """Plan the schedule's slots. Stop and log a schedule that has become invalid (for example,
        its time zone was removed).

        Otherwise its error would end every poll, and no other job would be fired.
        """
        try:
            return await self._decide(job, schedule, now)
        except (InvalidInputError, ZoneInfoNotFoundError) as error:
            _log.error("schedule_stopped", job_id=job.id, schedule_id=schedule.id, error=str(error))
            return _DueSchedule(job, schedule, Plan(None, (), 0, None))

    async def _decide(self, job: Job, schedule: Schedule, now: datetime) -> _DueSchedule:
        """Plan the schedule's slots. Missed slots are recorded here, before the slots to execute.

        Another process may have recorded missed slots with another `now`, so its record may cover
        other slots. In this case the method reads that record and plans again from the first slot
        after it.
        """
        for _ in range(_MAX_DECISIONS):
            plan = catch_up.plan(schedule, job.catch_up, now)
            if plan.missed is None:
                return self._build_due(job, schedule, plan, now)
            missed = self._miss(job, schedule, plan.missed, now)
            if await self._executions.insert(missed) is InsertResult.INSERTED:
                _log.warning("slots_missed", **_ids(missed), count=missed.missed_count)
                return self._build_due(job, schedule, replace(plan, missed=None), now)
            recorded = await self._executions.list_slot_records(schedule.id, [missed.scheduled_for])
            if not recorded:  # a newer release wrote it, and will advance the schedule
                break
            schedule = _skip_recorded(schedule, recorded[0])
        return self._build_due(job, schedule, Plan(None, (), 0, schedule.next_run), now)

    def _build_due(self, job: Job, schedule: Schedule, plan: Plan, now: datetime) -> _DueSchedule:
        executions = [
            self._queue(job, schedule, slot, _run_at(job, schedule, plan, i, now), now)
            for i, slot in enumerate(plan.slots)
        ]
        return _DueSchedule(job, schedule, plan, executions)

    async def _record(self, due: Sequence[_DueSchedule], now: datetime, read_at: float) -> int:
        """Insert the records, wake the workers, then advance the jobs."""
        if self._clock.monotonic() - read_at > STALE_AFTER.total_seconds():
            _log.warning("stale_batch_dropped", jobs=len(due))
            return 0
        executions = [execution for one in due for execution in one.executions]
        results = await self._executions.insert_many(executions)
        if InsertResult.INSERTED in results:
            self._wake.wake_workers()
        by_id = {e.id: result for e, result in zip(executions, results, strict=True)}
        for one in due:
            await self._apply_overlap_policy(one, by_id, now)
        recorded_counts = await self._count_recorded(due, by_id)
        return await self._jobs.advance(_build_advances(due, recorded_counts))

    async def _apply_overlap_policy(
        self, due: _DueSchedule, results: dict[str, InsertResult], now: datetime
    ) -> None:
        """Apply the policy to each overlapping execution. Changes `results` to INSERTED for those
        that were not skipped."""
        overlapping = [e for e in due.executions if results[e.id] is InsertResult.OVERLAP]
        if due.job.overlap_policy is OverlapPolicy.SKIP:
            # The default, and so the frequent case when many jobs are due: one batch.
            skipped = [e.skip(Reason.OVERLAP, now) for e in overlapping]
            await self._executions.insert_many(skipped)
            return
        for execution in overlapping:
            recorded = await self._admission.apply_policy(execution, due.job.overlap_policy, now)
            if recorded is not None and recorded.status is not ExecutionStatus.SKIPPED:
                results[execution.id] = InsertResult.INSERTED
                self._wake.wake_workers()

    async def _count_recorded(
        self, due: Sequence[_DueSchedule], results: dict[str, InsertResult]
    ) -> dict[str, int]:
        """For each schedule id: how many of the planned slots have a record that counts towards
        `max_runs`.

        Records of other processes are counted only if the schedule has `max_runs`.
        """
        counts: dict[str, int] = {}
        for one in due:
            count = sum(results[e.id] is InsertResult.INSERTED for e in one.executions)
            found = [
                e.scheduled_for
                for e in one.executions
                if results[e.id] is InsertResult.ALREADY_RECORDED
            ]
            if found and one.schedule.max_runs is not None:
                recorded = await self._executions.list_slot_records(one.schedule.id, found)
                count += sum(_is_counted(execution) for execution in recorded)
            counts[one.schedule.id] = count
        return counts

    def _queue(
        self, job: Job, schedule: Schedule, slot: datetime, run_at: datetime, now: datetime
    ) -> Execution:
        return Execution.queue(
            self._new_id(),
            job_id=job.id,
            owner_id=job.owner_id,
            schedule_id=schedule.id,
            kind=ExecutionKind.SCHEDULED,
            scheduled_for=slot,
            run_at=run_at,
            policy=job.overlap_policy,
            now=now,
        )

    def _miss(self, job: Job, schedule: Schedule, span: MissedSpan, now: datetime) -> Execution:
        first = self._queue(job, schedule, span.first, span.first, now)
        return first.miss(until=span.last, count=span.count, now=now)


def _run_at(job: Job, schedule: Schedule, plan: Plan, i: int, now: datetime) -> datetime:
    """When the i-th planned slot may start: late ones ten a second, the others with jitter."""
    if i < plan.late_count:
        return now + i * LATE_START_INTERVAL
    slot = plan.slots[i]
    most = timedelta(seconds=schedule.jitter_seconds)
    if not most:
        return slot
    following = next_slot(schedule, slot)
    if following is not None:
        most = min(most, following - slot)
    return slot + jitter(job.id, slot, limit=most)


def _is_counted(execution: Execution) -> bool:
    """Whether a recorded slot counts towards `max_runs`."""
    return execution.status not in {ExecutionStatus.SKIPPED, ExecutionStatus.MISSED}


def _skip_recorded(schedule: Schedule, recorded: Execution) -> Schedule:
    """The schedule with `next_run` after the slots of a record of another process."""
    last = recorded.missed_until or recorded.scheduled_for
    runs = schedule.runs + _is_counted(recorded)
    return schedule.model_copy(update={"next_run": next_slot(schedule, last), "runs": runs})


def _build_advances(
    due: Sequence[_DueSchedule], recorded_counts: dict[str, int]
) -> list[tuple[Job, Job]]:
    """For each job: as it was read, and as it is to be stored."""
    fired = {one.schedule.id: one for one in due}
    advances: list[tuple[Job, Job]] = []
    for job in {one.job.id: one.job for one in due}.values():
        schedules = tuple(
            _advance(fired[s.id], recorded_counts[s.id]) if s.id in fired else s
            for s in job.schedules
        )
        if schedules != job.schedules:
            next_run = earliest_next_run(schedules, active=job.active)
            changes = {"schedules": schedules, "next_run": next_run}
            advances.append((job, job.model_copy(update=changes)))
    return advances


def _advance(one: _DueSchedule, recorded_count: int) -> Schedule:
    runs = one.schedule.runs + recorded_count
    advanced = one.schedule.model_copy(update={"next_run": one.plan.next_run, "runs": runs})
    if runs_left(advanced) == 0:
        return advanced.model_copy(update={"next_run": None})
    return advanced


def _ids(execution: Execution) -> dict[str, str | None]:
    return {"job_id": execution.job_id, "schedule_id": execution.schedule_id}
