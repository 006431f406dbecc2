"""Backfills: insert executions for the slots of a past range."""

from collections.abc import Iterator
from datetime import datetime

from app.errors import InvalidInputError, NotFoundError
from app.models.execution import Execution, ExecutionKind
from app.models.idempotency import ReservedId
from app.models.ids import NewId, is_id
from app.models.job import Job
from app.models.policy import OverlapPolicy
from app.models.schedule import MILLISECOND, Schedule, find_start, next_slot, trigger_of
from app.models.user import Actor
from app.policies.catch_up import LATE_START_INTERVAL
from app.policies.overlap import MAX_WAITING
from app.repositories.jobs import JobRepository
from app.schemas.executions import BackfillIn, BackfillOut, BackfillSlot
from app.services.admission import Admission, Candidate
from app.services.job_changes import raise_hops
from app.wake import Wake

MAX_SLOTS = 1_000
"""The most slots of one backfill under `allow_all`."""
MAX_SLOTS_IN_TURN = MAX_WAITING + 1
"""The most slots under the other policies: under `buffer_all` one is live and the others wait."""


class BackfillService:
    """Finds the slots of a range and inserts an execution for each."""

    def __init__(
        self,
        *,
        jobs: JobRepository,
        admission: Admission,
        wake: Wake,
        new_id: NewId,
    ) -> None:
        self._jobs = jobs
        self._admission = admission
        self._wake = wake
        self._new_id = new_id

    async def backfill(
        self,
        actor: Actor,
        job_id: str,
        wanted: BackfillIn,
        *,
        reserved: ReservedId | None = None,
        hops: int = 0,
    ) -> BackfillOut:
        """Insert an execution for each slot in [start, end) of the job's present schedules.

        Inactive schedules are included. A dry run writes nothing. A second call with the same
        reserved id adds only the missing executions. Raises NotFoundError, and InvalidInputError
        for a range that reaches into the future or has too many slots.
        """
        if not is_id(job_id):
            raise NotFoundError.of("job")
        job = await self._jobs.get(job_id, owner_id=actor.visible_owner_id)
        now = await self._jobs.now()
        if wanted.end > now:
            raise InvalidInputError.at("/end", "the range must not reach into the future")
        slots = _list_slots(_choose_schedules(job, wanted), wanted)
        shown = [BackfillSlot(schedule_id=s.id, scheduled_for=slot) for slot, s in slots]
        if wanted.dry_run or not slots:
            return BackfillOut(backfill_id=None, count=len(slots), slots=shown)
        backfill_id = reserved.result_id if reserved else self._new_id()
        policy = wanted.overlap_policy
        job = raise_hops(job, hops)
        executions = [
            self._queue(job, schedule, slot, backfill_id, policy, now) for slot, schedule in slots
        ]
        if policy is OverlapPolicy.ALLOW_ALL:
            executions = _spread(executions, now)
        await self._admission.admit_many([Candidate(e, policy) for e in executions], now)
        # Not before: all slots are treated as due now, so none may end before the last is admitted.
        self._wake.wake_workers()
        return BackfillOut(backfill_id=backfill_id, count=len(slots), slots=shown)

    def _queue(
        self,
        job: Job,
        schedule: Schedule,
        slot: datetime,
        backfill_id: str,
        policy: OverlapPolicy,
        now: datetime,
    ) -> Execution:
        return Execution.queue(
            self._new_id(),
            job_id=job.id,
            owner_id=job.owner_id,
            schedule_id=schedule.id,
            kind=ExecutionKind.BACKFILL,
            scheduled_for=slot,
            run_at=now,
            policy=policy,
            now=now,
            backfill_id=backfill_id,
            hops=job.hops,
        )


def _spread(executions: list[Execution], now: datetime) -> list[Execution]:
    """Let ten start per second: under `allow_all` none waits for another."""
    return [
        e.model_copy(update={"run_at": now + n * LATE_START_INTERVAL})
        for n, e in enumerate(executions)
    ]


def _choose_schedules(job: Job, wanted: BackfillIn) -> list[Schedule]:
    if wanted.schedule_id is None:
        return list(job.schedules)
    chosen = [s for s in job.schedules if s.id == wanted.schedule_id]
    if not chosen:
        raise InvalidInputError.at("/schedule_id", "this job has no such schedule")
    return chosen


def _list_slots(schedules: list[Schedule], wanted: BackfillIn) -> list[tuple[datetime, Schedule]]:
    """Return the slots in order.

    Counts the slots before listing them, so that a huge range is rejected cheaply.
    """
    count = sum(_count(schedule, wanted) for schedule in schedules)
    policy = wanted.overlap_policy
    most = MAX_SLOTS if policy is OverlapPolicy.ALLOW_ALL else MAX_SLOTS_IN_TURN
    if count > most:
        raise InvalidInputError.at(
            "/end", f"the range has {count} slots; under {policy} a backfill runs at most {most}"
        )
    found = [(slot, s) for s in schedules for slot in _slots_of(s, wanted)]
    return sorted(found, key=lambda pair: (pair[0], pair[1].id))


def _count(schedule: Schedule, wanted: BackfillIn) -> int:
    first, last = wanted.start, wanted.end - MILLISECOND
    begin = find_start(schedule)
    if begin is not None:
        first = max(first, begin)
    if schedule.end_at is not None:
        last = min(last, schedule.end_at)
    return trigger_of(schedule).count(first, last) if first <= last else 0


def _slots_of(schedule: Schedule, wanted: BackfillIn) -> Iterator[datetime]:
    slot = next_slot(schedule, wanted.start - MILLISECOND)
    while slot is not None and slot < wanted.end:
        yield slot
        slot = next_slot(schedule, slot)
