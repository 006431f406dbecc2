"""Backfills: insert executions for the slots of a past range."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

from app.errors import InvalidInputError, NotFoundError
from app.loop_turns import wait_for_loop_turn
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
from app.services.user_limit import UserLimit
from app.wake import Wake

MAX_SLOTS = 1_000
"""The most slots of one backfill under `allow_all`."""
MAX_SLOTS_IN_TURN = MAX_WAITING + 1
"""The most slots under the other policies: under `buffer_all` one is live and the others wait."""

MOST_IN_PROGRESS = 4
"""In this process: of each user one."""
_BUILT_AT_ONCE = 20
_INSERTED_AT_ONCE = 60


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
        self._in_progress = UserLimit(most=MOST_IN_PROGRESS, most_of_a_user=1)

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
        reserved id adds only the missing executions. The other backfills of the user wait. Raises
        NotFoundError, and InvalidInputError for a range that reaches into the future or has too
        many slots.
        """
        if not is_id(job_id):
            raise NotFoundError.of("job")
        async with self._in_progress.enter(actor.user_id):
            job = await self._jobs.get(job_id, owner_id=actor.visible_owner_id)
            now = await self._jobs.now()
            if wanted.end > now:
                raise InvalidInputError.at("/end", "the range must not reach into the future")
            slots = await _list_slots(_choose_schedules(job, wanted), wanted)
            shown = [BackfillSlot(schedule_id=s.id, scheduled_for=slot) for slot, s in slots]
            if wanted.dry_run or not slots:
                return BackfillOut(backfill_id=None, count=len(slots), slots=shown)
            backfill_id = reserved.result_id if reserved else self._new_id()
            new = self._build_executions(raise_hops(job, hops), slots, backfill_id, wanted, now)
            await self._admit(new, wanted.overlap_policy, now)
        return BackfillOut(backfill_id=backfill_id, count=len(slots), slots=shown)

    async def _admit(
        self, executions: Iterator[Execution], policy: OverlapPolicy, now: datetime
    ) -> None:
        """Insert the executions. Other requests get their turn after a few.

        Under `allow_all` they are inserted in parts, because they do not affect each other. All
        other policies need the executions at once: all slots are treated as due now, so none may
        end before the last is admitted.
        """
        candidates: list[Candidate] = []
        while part := [Candidate(e, policy) for e in islice(executions, _BUILT_AT_ONCE)]:
            candidates += part
            if policy is OverlapPolicy.ALLOW_ALL and len(candidates) >= _INSERTED_AT_ONCE:
                await self._admission.admit_many(candidates, now)
                candidates = []
            await wait_for_loop_turn()
        if candidates:
            await self._admission.admit_many(candidates, now)
        self._wake.wake_workers()

    def _build_executions(
        self,
        job: Job,
        slots: list[tuple[datetime, Schedule]],
        backfill_id: str,
        wanted: BackfillIn,
        now: datetime,
    ) -> Iterator[Execution]:
        """Under `allow_all` ten start per second, because none waits for another."""
        policy = wanted.overlap_policy
        interval = LATE_START_INTERVAL if policy is OverlapPolicy.ALLOW_ALL else timedelta(0)
        for n, (slot, schedule) in enumerate(slots):
            yield Execution.queue(
                self._new_id(),
                job_id=job.id,
                owner_id=job.owner_id,
                schedule_id=schedule.id,
                kind=ExecutionKind.BACKFILL,
                scheduled_for=slot,
                run_at=now + n * interval,
                policy=policy,
                now=now,
                backfill_id=backfill_id,
                hops=job.hops,
            )


def _choose_schedules(job: Job, wanted: BackfillIn) -> list[Schedule]:
    if wanted.schedule_id is None:
        return list(job.schedules)
    chosen = [s for s in job.schedules if s.id == wanted.schedule_id]
    if not chosen:
        raise InvalidInputError.at("/schedule_id", "this job has no such schedule")
    return chosen


async def _list_slots(
    schedules: list[Schedule], wanted: BackfillIn
) -> list[tuple[datetime, Schedule]]:
    """Return the slots in order. Other requests get their turn after a few.

    Counts the slots before listing them, so that a huge range is rejected cheaply.
    """
    count = 0
    for schedule in schedules:
        await wait_for_loop_turn()
        count += _count(schedule, wanted)
    policy = wanted.overlap_policy
    most = MAX_SLOTS if policy is OverlapPolicy.ALLOW_ALL else MAX_SLOTS_IN_TURN
    if count > most:
        raise InvalidInputError.at(
            "/end", f"the range has {count} slots; under {policy} a backfill runs at most {most}"
        )
    found: list[tuple[datetime, Schedule]] = []
    for s in schedules:
        slots = _slots_of(s, wanted)
        while part := [(slot, s) for slot in islice(slots, _BUILT_AT_ONCE)]:
            found += part
            await wait_for_loop_turn()
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
