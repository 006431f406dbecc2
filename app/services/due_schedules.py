"""The parts of a batch of firing: due schedules with their planned slots, and their records.

Pure functions; `firing.py` writes what they build.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.models.execution import Execution, ExecutionKind
from app.models.ids import NewId
from app.models.job import Job, earliest_next_run
from app.models.policy import CatchUpMode
from app.models.schedule import Schedule, next_slot, runs_left
from app.policies.catch_up import MAX_LATE_SLOTS, MissedSpan, Plan, PlannedSlot
from app.policies.jitter import jitter
from app.repositories.slot_records import SlotRecord


@dataclass(slots=True)
class DueSchedule:
    """One schedule of a job while it is fired."""

    job: Job
    schedule: Schedule
    next_run: datetime | None
    """The first slot on which nothing is decided."""
    missed: list[Execution]
    late: list[Execution]
    on_time: list[Execution]
    counted: int = 0
    """How many of the planned slots have a record that counts towards `max_runs`."""

    @property
    def executions(self) -> list[Execution]:
        return self.late + self.on_time

    def list_groups(self) -> Iterator[tuple[list[Execution], int | None]]:
        """The executions, and how many of a group may wait if the overlap policy does not decide:
        the late slots of the catch-up policy `all` wait for each other."""
        yield self.late, MAX_LATE_SLOTS if self.job.catch_up.policy is CatchUpMode.ALL else None
        yield self.on_time, None

    @property
    def late_size(self) -> int:
        return len(self.missed) + len(self.late)

    @property
    def size(self) -> int:
        return self.late_size + len(self.on_time)

    def stop_at(self, execution: Execution, record: SlotRecord | None) -> None:
        """Decide nothing from the slot of a planned `missed` record on, because the slot has
        another record. Only an earlier release stores one. The next firing continues after it."""
        first = execution.scheduled_for
        self.late = [e for e in self.late if e.scheduled_for < first]
        self.on_time = [e for e in self.on_time if e.scheduled_for < first]
        self.next_run = first
        self.counted = 0
        if record is not None:
            self.next_run = next_slot(self.schedule, record.missed_until or first)
            self.counted = int(record.is_counted)

    def apply_records(self, records: Sequence[SlotRecord | None]) -> None:
        """Count the records of the planned executions.

        `next_run` must not pass a slot without a record. The records after such a slot are counted
        by the next firing, which decides on them again.
        """
        slots = [execution.scheduled_for for execution in self.executions]
        pairs = list(zip(slots, records, strict=True))
        unrecorded = min((slot for slot, record in pairs if record is None), default=None)
        if unrecorded is not None:
            self.next_run, self.counted = unrecorded, 0
            pairs = [(slot, record) for slot, record in pairs if slot < unrecorded]
        self.counted += sum(record is not None and record.is_counted for _, record in pairs)


@dataclass(slots=True)
class Batch:
    """Due schedules whose records are written together. It has all due schedules of a job."""

    due: list[DueSchedule] = field(default_factory=list)
    size: int = 0

    def add(self, due: Iterable[DueSchedule]) -> None:
        for one in due:
            self.due.append(one)
            self.size += one.size or 1


class RecordBuilder:
    """Builds the records of one firing."""

    def __init__(self, new_id: NewId, now: datetime) -> None:
        self._new_id = new_id
        self._now = now

    def build_due(self, job: Job, schedule: Schedule, plan: Plan) -> DueSchedule:
        """Build the records of a plan."""
        late: list[Execution] = []
        on_time: list[Execution] = []
        for slot in plan.slots:
            run_at = slot.start_at or _delay(job, schedule, slot)
            records = on_time if slot.start_at is None else late
            records.append(self._queue(job, schedule, slot.at, run_at))
        missed = [self._miss(job, schedule, span) for span in plan.missed]
        return DueSchedule(job, schedule, plan.next_run, missed, late, on_time)

    def _miss(self, job: Job, schedule: Schedule, span: MissedSpan) -> Execution:
        first = self._queue(job, schedule, span.first, span.first)
        return first.miss(until=span.last, count=span.count, now=self._now)

    def _queue(self, job: Job, schedule: Schedule, slot: datetime, run_at: datetime) -> Execution:
        return Execution.queue(
            self._new_id(),
            job_id=job.id,
            owner_id=job.owner_id,
            schedule_id=schedule.id,
            kind=ExecutionKind.SCHEDULED,
            scheduled_for=slot,
            run_at=run_at,
            policy=job.overlap_policy,
            now=self._now,
            hops=job.hops,
        )


def _delay(job: Job, schedule: Schedule, slot: PlannedSlot) -> datetime:
    """When a slot that is on time may start: jitter delays it, but not past the next slot."""
    most = timedelta(seconds=schedule.jitter_seconds)
    if not most:
        return slot.at
    following = next_slot(schedule, slot.at)
    if following is not None:
        most = min(most, following - slot.at)
    return slot.at + jitter(job.id, slot.at, limit=most)


def build_advances(due: Sequence[DueSchedule]) -> list[tuple[Job, Job]]:
    """For each job: as it was read, and as it is to be stored."""
    fired = {one.schedule.id: one for one in due}
    advances: list[tuple[Job, Job]] = []
    for job in {one.job.id: one.job for one in due}.values():
        schedules = tuple(_advance(fired[s.id]) if s.id in fired else s for s in job.schedules)
        if schedules != job.schedules:
            next_run = earliest_next_run(schedules, active=job.active)
            changes = {"schedules": schedules, "next_run": next_run}
            advances.append((job, job.model_copy(update=changes)))
    return advances


def _advance(one: DueSchedule) -> Schedule:
    runs = one.schedule.runs + one.counted
    advanced = one.schedule.model_copy(update={"next_run": one.next_run, "runs": runs})
    if runs_left(advanced) == 0:
        return advanced.model_copy(update={"next_run": None})
    return advanced
