"""Firing: inserts execution records for due slots, and only then advances `next_run`.

The scheduler loop fires what is due, and so does a user's write that changes when a job is due.
A crash after any write loses no slot and doubles none: the slot's index makes a second record
impossible, and a `next_run` that was not advanced makes the slot due again.
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
from app.policies.catch_up import LATE_START_INTERVAL, MissedSpan, Plan, plan
from app.policies.jitter import jitter
from app.repositories.executions import ExecutionRepository, InsertResult
from app.repositories.jobs import JobRepository
from app.services.admission import Admission
from app.wake import Wake

_log = structlog.get_logger(__name__)

STALE_AFTER = timedelta(seconds=30)
"""A batch that was read longer ago is dropped. History younger than a day is never deleted, so a
scheduler that was frozen between its read and its write finds the records of the slots."""

_CHUNK = 1_000  # execution records in memory and in one insert
_MOST_DECISIONS = 50  # on one schedule's missed slots in one firing; the next firing continues


@dataclass(slots=True)
class _Due:
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
        """Record every slot of `jobs` up to the database's `now`; returns how many jobs it
        advanced.

        `read_at` is when the jobs were read, on the monotonic clock; None means just now.
        Raises UnavailableError; what it recorded before stays, and the next call continues.
        """
        read_at = self._clock.monotonic() if read_at is None else read_at
        advanced, decided, size = 0, list[_Due](), 0
        for job in jobs:
            for schedule in job.schedules:
                if schedule.active and schedule.next_run is not None and schedule.next_run <= now:
                    due = await self._decide_or_stop(job, schedule, now)
                    decided.append(due)
                    size += len(due.executions)
            if size >= _CHUNK:
                advanced += await self._record(decided, now, read_at)
                decided, size = [], 0
        return advanced + await self._record(decided, now, read_at)

    async def _decide_or_stop(self, job: Job, schedule: Schedule, now: datetime) -> _Due:
        """A schedule that has become invalid (its time zone was removed, for example) stops and
        is logged: at the head of the poll it would keep every other job from running."""
        try:
            return await self._decide(job, schedule, now)
        except (InvalidInputError, ZoneInfoNotFoundError) as error:
            _log.error("schedule_stopped", job_id=job.id, schedule_id=schedule.id, error=str(error))
            return _Due(job, schedule, Plan(None, (), 0, None))

    async def _decide(self, job: Job, schedule: Schedule, now: datetime) -> _Due:
        """Plan the schedule's slots. Missed ones are recorded here, before any that runs.

        Which slots are missed depends on `now`, so a `missed` record of another process may cover
        other slots than this plan. This reads it and decides again on the slots after it.
        """
        for _ in range(_MOST_DECISIONS):
            decided = plan(schedule, job.catch_up, now)
            if decided.missed is None:
                return self._due(job, schedule, decided, now)
            missed = self._miss(job, schedule, decided.missed, now)
            if await self._executions.insert(missed) is InsertResult.INSERTED:
                _log.warning("slots_missed", **_ids(missed), count=missed.missed_count)
                return self._due(job, schedule, replace(decided, missed=None), now)
            recorded = await self._executions.find_slots(schedule.id, [missed.scheduled_for])
            if not recorded:  # a newer release wrote it, and will advance the schedule
                break
            schedule = _after_recorded(schedule, recorded)
        return self._due(job, schedule, Plan(None, (), 0, schedule.next_run), now)

    def _due(self, job: Job, schedule: Schedule, decided: Plan, now: datetime) -> _Due:
        executions = [
            self._queue(job, schedule, slot, _run_at(job, schedule, decided, i, now), now)
            for i, slot in enumerate(decided.slots)
        ]
        return _Due(job, schedule, decided, executions)

    async def _record(self, due: Sequence[_Due], now: datetime, read_at: float) -> int:
        """Insert the records, wake the workers, then advance the jobs."""
        if self._clock.monotonic() - read_at > STALE_AFTER.total_seconds():
            _log.warning("stale_batch_dropped", jobs=len(due))
            return 0
        executions = [execution for one in due for execution in one.executions]
        results = await self._executions.insert_many(executions)
        if InsertResult.INSERTED in results:
            self._wake.executions_queued()
        by_id = {e.id: result for e, result in zip(executions, results, strict=True)}
        for one in due:
            await self._apply_overlap_policy(one, by_id, now)
        ran = await self._count_runs(due, by_id)
        return await self._jobs.advance(_moves(due, ran))

    async def _apply_overlap_policy(
        self, due: _Due, results: dict[str, InsertResult], now: datetime
    ) -> None:
        """Apply the policy slot by slot. Notes in `results` which executions may still run."""
        overlapping = [e for e in due.executions if results[e.id] is InsertResult.OVERLAP]
        if due.job.overlap_policy is OverlapPolicy.SKIP:
            # The default, and so the frequent case when many jobs are due: one batch.
            skipped = [e.skip(Reason.OVERLAP, now) for e in overlapping]
            await self._executions.insert_many(skipped)
            return
        for execution in overlapping:
            recorded = await self._admission.apply_policy(execution, due.job.overlap_policy, now)
            if recorded.status is not ExecutionStatus.SKIPPED:
                results[execution.id] = InsertResult.INSERTED
                self._wake.executions_queued()

    async def _count_runs(
        self, due: Sequence[_Due], results: dict[str, InsertResult]
    ) -> dict[str, int]:
        """How many executions that run each schedule (by id) has recorded up to now, those of
        other processes included."""
        ran: dict[str, int] = {}
        for one in due:
            count = sum(results[e.id] is InsertResult.INSERTED for e in one.executions)
            found = [
                e.scheduled_for for e in one.executions if results[e.id] is InsertResult.RECORDED
            ]
            if found and one.schedule.max_runs is not None:
                recorded = await self._executions.find_slots(one.schedule.id, found)
                count += sum(_counts(execution) for execution in recorded)
            ran[one.schedule.id] = count
        return ran

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


def _run_at(job: Job, schedule: Schedule, decided: Plan, i: int, now: datetime) -> datetime:
    """When the i-th planned slot may start: late ones ten a second, the others with jitter."""
    if i < decided.late_count:
        return now + i * LATE_START_INTERVAL
    slot = decided.slots[i]
    most = timedelta(seconds=schedule.jitter_seconds)
    if not most:
        return slot
    following = next_slot(schedule, slot)
    if following is not None:
        most = min(most, following - slot)
    return slot + jitter(job.id, slot, limit=most)


def _counts(execution: Execution) -> bool:
    """Whether a recorded slot counts towards `max_runs`."""
    return execution.status not in {ExecutionStatus.SKIPPED, ExecutionStatus.MISSED}


def _after_recorded(schedule: Schedule, recorded: Sequence[Execution]) -> Schedule:
    """The schedule with `next_run` after the slots that another process recorded."""
    changes: dict[str, object] = {}
    for execution in recorded:
        last = execution.missed_until or execution.scheduled_for
        changes = {
            "next_run": next_slot(schedule, last),
            "runs": schedule.runs + _counts(execution),
        }
    return schedule.model_copy(update=changes)


def _moves(due: Sequence[_Due], ran: dict[str, int]) -> list[tuple[Job, Job]]:
    """For each job: as it was read, and as it is to be stored."""
    fired = {one.schedule.id: one for one in due}
    moves: list[tuple[Job, Job]] = []
    for job in {one.job.id: one.job for one in due}.values():
        schedules = tuple(
            _advance(fired[s.id], ran[s.id]) if s.id in fired else s for s in job.schedules
        )
        next_run = earliest_next_run(schedules, active=job.active)
        if schedules != job.schedules:
            changes = {"schedules": schedules, "next_run": next_run}
            moves.append((job, job.model_copy(update=changes)))
    return moves


def _advance(one: _Due, ran: int) -> Schedule:
    runs = one.schedule.runs + ran
    advanced = one.schedule.model_copy(update={"next_run": one.plan.next_run, "runs": runs})
    if runs_left(advanced) == 0:
        return advanced.model_copy(update={"next_run": None})
    return advanced


def _ids(execution: Execution) -> dict[str, str | None]:
    return {"job_id": execution.job_id, "schedule_id": execution.schedule_id}
