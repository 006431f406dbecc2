"""Firing: inserts execution records for due slots, and only then advances `next_run`.

The scheduler loop fires what is due, and so does a user's write that changes when a job is due.
A crash after any write neither loses a slot nor records it twice: the slot index makes a second
record impossible, and a `next_run` that was not advanced makes the slot due again.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from app.cache import Cache
from app.clock import Clock
from app.errors import InvalidInputError
from app.models.coverage import Coverage
from app.models.execution import Execution
from app.models.ids import NewId
from app.models.job import Job, earliest_next_run
from app.models.schedule import Schedule
from app.policies import catch_up
from app.policies.catch_up import Plan
from app.policies.firing_shares import MAX_DECISIONS, divide_decisions
from app.repositories.executions import ExecutionRepository, InsertResult
from app.repositories.jobs import JobRepository
from app.repositories.slot_records import SlotRecord, key_of
from app.services.admission import Admission, Candidate
from app.services.due_schedules import Batch, DueSchedule, RecordBuilder, build_advances
from app.services.ticks import TickService
from app.wake import Wake

_log = structlog.get_logger(__name__)

STALE_AFTER = timedelta(seconds=30)
"""A batch that was read longer ago is dropped: if the process was frozen for more than a day,
retention may have deleted the records that prevent a second execution of a slot."""

_FLUSH_SIZE = 500
"""Decisions are written when there are this many."""

MAX_DURATION = timedelta(milliseconds=500)
"""A firing writes its decisions and ends after this time. Otherwise the many slots of one owner
would delay the jobs that have become due since the read."""

_INVALID_SCHEDULE = (
    InvalidInputError,
    ArithmeticError,
    LookupError,
    ValueError,
    OSError,
    TypeError,
)
"""What the calculations raise for the values of a stored schedule that are not valid."""


class Firing:
    """Fires due jobs. Any number of processes may fire the same job at once."""

    def __init__(
        self,
        *,
        jobs: JobRepository,
        executions: ExecutionRepository,
        admission: Admission,
        ticks: TickService,
        cache: Cache,
        wake: Wake,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._jobs = jobs
        self._executions = executions
        self._admission = admission
        self._ticks = ticks
        self._cache = cache
        self._wake = wake
        self._clock = clock
        self._new_id = new_id

    async def fire(
        self,
        jobs: Sequence[Job],
        now: datetime,
        *,
        read_at: float | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> int:
        """Record the slots of `jobs` up to the database's `now`. Returns the number of advanced
        jobs.

        `read_at` is when the jobs were read, on the monotonic clock; None means just now. After
        half a second for the jobs that are on time and half a second for the late ones, or when
        `is_stopping` returns true, the rest is left to the next firing. Raises UnavailableError;
        the records that were stored before stay, and the next call continues.
        """
        read_at = self._clock.monotonic() if read_at is None else read_at
        advanced = await self._repair(jobs)
        for shares in divide_decisions(jobs, await self._ticks.cover(now)):
            advanced += await self._fire_shares(shares, now, read_at, is_stopping)
            if is_stopping() or self._is_stale(read_at):
                break
        return advanced

    async def _fire_shares(
        self,
        shares: Sequence[tuple[Job, int]],
        now: datetime,
        read_at: float,
        is_stopping: Callable[[], bool],
    ) -> int:
        """Fire these jobs, each with at most so many decisions."""
        builder = RecordBuilder(self._new_id, now)
        coverage = await self._ticks.cover()
        ends_at = self._clock.monotonic() + MAX_DURATION.total_seconds()
        advanced, batch, late = 0, Batch(), 0
        for job, most in shares:
            until = coverage.find_limit(min(now, coverage.covered_until))
            decided = _decide(job, until, coverage, builder, most=most)
            batch.add(decided)
            late += sum(one.late_size for one in decided)
            if late >= MAX_DECISIONS:
                break
            if batch.size < _FLUSH_SIZE and self._clock.monotonic() < ends_at:
                continue
            advanced += await self._record(batch.due, now, read_at)
            batch = Batch()
            if is_stopping() or self._clock.monotonic() >= ends_at:
                break
            await asyncio.sleep(0)  # lets other tasks run, also if nothing was written
            coverage = await self._ticks.cover()
        return advanced + await self._record(batch.due, now, read_at)

    def _is_stale(self, read_at: float) -> bool:
        return self._clock.monotonic() - read_at > STALE_AFTER.total_seconds()

    async def _repair(self, jobs: Sequence[Job]) -> int:
        """Correct a `next_run` that is not the earliest of the schedules. Only a malformed job has
        one, and each poll would find it again."""
        corrected = [
            (job, job.model_copy(update={"next_run": earliest}))
            for job in jobs
            if (earliest := earliest_next_run(job.schedules, active=job.active)) != job.next_run
        ]
        return await self._advance(corrected) if corrected else 0

    async def _record(self, due: Sequence[DueSchedule], now: datetime, read_at: float) -> int:
        """Insert the records, wake the workers, then advance the jobs.

        The number of statements does not depend on the number of schedules.
        """
        if not due:
            return 0
        if self._is_stale(read_at):
            _log.warning("stale_batch_dropped", jobs=len({one.job.id for one in due}))
            return 0
        await self._record_missed(due)
        records = await self._record_runs(due, now)
        for one in due:
            one.apply_records([records.get(execution.id) for execution in one.executions])
        return await self._advance(build_advances(due))

    async def _advance(self, advances: Sequence[tuple[Job, Job]]) -> int:
        """Store the advances. Note the owners also if the result is unknown."""
        try:
            return await self._jobs.advance(advances)
        finally:
            self._cache.note_moved(seen.owner_id for seen, _ in advances)

    async def _record_missed(self, due: Sequence[DueSchedule]) -> None:
        """Insert the `missed` records, before any other record of these schedules.

        A slot that already has the same record was recorded by another process.
        """
        missed = [(one, execution) for one in due for execution in one.missed]
        results = await self._executions.insert_many([execution for _, execution in missed])
        found = []
        for (one, execution), result in zip(missed, results, strict=True):
            if result is InsertResult.INSERTED:
                _log_missed(execution)
            else:
                found.append((one, execution))
        records = await self._executions.list_recorded_slots([key_of(e) for _, e in found])
        # Reversed, so that the earliest mismatch of a schedule is applied last and wins.
        for one, execution in reversed(found):
            record = records.get(key_of(execution))
            if record is None or record.missed_until != execution.missed_until:
                one.stop_at(execution, record)

    async def _record_runs(
        self, due: Sequence[DueSchedule], now: datetime
    ) -> dict[str, SlotRecord]:
        """Insert the executions. Returns the record of the slot of each, by execution id, whoever
        stored it."""
        candidates = [
            Candidate(e, one.job.overlap_policy, positions)
            for one in due
            for group, positions in one.list_groups()
            for e in group
        ]
        admitted = await self._admission.admit_many(candidates, now)
        records = {execution_id: SlotRecord(e.status) for execution_id, e in admitted.items()}
        if any(record.is_counted for record in records.values()):
            self._wake.wake_workers()
        new = [one.execution for one in candidates]
        others = {e.id: key_of(e) for e in new if e.id not in records}
        found = await self._executions.list_recorded_slots(others.values())
        return records | {id_: found[slot] for id_, slot in others.items() if slot in found}


def _decide(
    job: Job, until: datetime, coverage: Coverage, builder: RecordBuilder, *, most: int
) -> list[DueSchedule]:
    """Plan at most about `most` slots of the job's due schedules, the most overdue schedule
    first."""
    due = [(s.next_run, s) for s in job.schedules if s.active and s.next_run is not None]
    decided: list[DueSchedule] = []
    left = most
    for next_run, schedule in sorted(due, key=lambda pair: pair[0]):
        if next_run <= until and left > 0:
            one = _plan_or_stop(job, schedule, until, coverage, builder, most=left)
            decided.append(one)
            left -= one.size
    return decided


def _plan_or_stop(
    job: Job,
    schedule: Schedule,
    until: datetime,
    coverage: Coverage,
    builder: RecordBuilder,
    *,
    most: int,
) -> DueSchedule:
    """Plan the schedule's slots. Stop and log a schedule that has become invalid (for example,
    its time zone was removed, or a stored number is too large for a calculation).

    Otherwise its error would end every poll, and no other job would be fired.
    """
    try:
        plan = catch_up.plan(schedule, job.catch_up, until, coverage, most=most)
        return builder.build_due(job, schedule, plan)
    except _INVALID_SCHEDULE as error:
        _log.error("schedule_stopped", job_id=job.id, schedule_id=schedule.id, error=str(error))
        return builder.build_due(job, schedule, Plan(None))


def _log_missed(execution: Execution) -> None:
    _log.warning(
        "slots_missed",
        job_id=execution.job_id,
        schedule_id=execution.schedule_id,
        count=execution.missed_count,
    )
