"""Forecasts: future slots, and whether a past instant was a slot and what became of it."""

import heapq
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

from app.loop_turns import wait_for_loop_turn
from app.models.execution import Execution, ExecutionStatus
from app.models.ids import NewId
from app.models.schedule import MILLISECOND, Schedule, find_start, next_slot, runs_left, trigger_of
from app.models.user import Actor
from app.repositories.executions import ExecutionRepository
from app.repositories.jobs import JobRepository
from app.schemas.forecasts import InstantExplanation, Preview, PreviewSlot, SlotVerdict, Verdict
from app.schemas.schedules import ScheduleIn
from app.schemas.schedules_to_write import read_new_schedule
from app.services.jobs import JobService
from app.services.schedule_changes import build_schedules
from app.triggers.preview import describe, notes_on, warnings_of

_COMPUTED_AT_ONCE = 20
_PAUSED = "The job is paused: it has no future slots until it is resumed."


class ForecastService:
    """Computes slots of unsaved and of stored schedules.

    Every method may raise UnavailableError, and NotFoundError if it takes an id.
    """

    def __init__(
        self,
        *,
        job_service: JobService,
        jobs: JobRepository,
        executions: ExecutionRepository,
        new_id: NewId,
    ) -> None:
        self._job_service = job_service
        self._jobs = jobs
        self._executions = executions
        self._new_id = new_id

    async def preview(self, body: ScheduleIn, count: int) -> Preview:
        """The first slots of a schedule that is not saved. Raises InvalidInputError."""
        now = await self._jobs.now()
        await wait_for_loop_turn()
        to_write = read_new_schedule(body)
        (schedule,) = build_schedules([to_write], (), now=now, new_id=self._new_id)
        trigger = trigger_of(schedule)
        after = schedule.start_at - MILLISECOND if schedule.start_at else now
        coming = (
            _show_slot(schedule, slot, schedule_id=None) for slot in _slots_after(schedule, after)
        )
        return Preview(
            description=describe(trigger),
            warnings=warnings_of(trigger, jitter_seconds=schedule.jitter_seconds, now=now),
            next_runs=await _compute(coming, count),
        )

    async def next_runs(self, actor: Actor, job_id: str, count: int) -> Preview:
        """The next slots of all active schedules of a job, in order."""
        job = await self._job_service.get(actor, job_id)
        now = await self._jobs.now()
        descriptions, warnings = [], []
        for s in job.schedules:
            await wait_for_loop_turn()
            trigger = trigger_of(s)
            descriptions.append(describe(trigger))
            if s.active:
                warnings += warnings_of(trigger, jitter_seconds=s.jitter_seconds, now=now)
        active = [s for s in job.schedules if s.active] if job.active else []
        slots = heapq.merge(*(_coming_slots(s, n) for n, s in enumerate(active)))
        coming = (_show_slot(active[n], slot, schedule_id=active[n].id) for slot, n in slots)
        return Preview(
            description="; ".join(descriptions) or "Never",
            warnings=warnings if job.active else [_PAUSED],
            next_runs=await _compute(coming, count),
        )

    async def explain(self, actor: Actor, job_id: str, at: datetime) -> InstantExplanation:
        """Explain for each present schedule whether the instant `at` is a slot, and what became of
        the slot."""
        job = await self._job_service.get(actor, job_id)
        now = await self._jobs.now()
        verdicts = []
        for schedule in job.schedules:
            newest = await self._executions.find_newest_slot_record(schedule.id, at)
            verdicts.append(_judge(schedule, newest, at, now))
        return InstantExplanation(at=at, items=verdicts)


async def _compute(coming: Iterator[PreviewSlot], count: int) -> list[PreviewSlot]:
    """Compute the first slots. Other requests get their turn after a few."""
    found: list[PreviewSlot] = []
    for start in range(0, count, _COMPUTED_AT_ONCE):
        await wait_for_loop_turn()
        found += islice(coming, min(_COMPUTED_AT_ONCE, count - start))
    return found


def _slots_after(schedule: Schedule, instant: datetime) -> Iterator[datetime]:
    """The schedule's slots after an instant, as many as `max_runs` still allows."""
    left = runs_left(schedule)
    slot = next_slot(schedule, instant)
    while slot is not None and left != 0:
        yield slot
        left = None if left is None else left - 1
        slot = next_slot(schedule, slot)


def _coming_slots(schedule: Schedule, number: int) -> Iterator[tuple[datetime, int]]:
    """The schedule's future slots, each with this number. They are computed one by one."""
    if schedule.next_run is not None:
        for slot in _slots_after(schedule, schedule.next_run - MILLISECOND):
            yield slot, number


def _show_slot(schedule: Schedule, slot: datetime, *, schedule_id: str | None) -> PreviewSlot:
    zone = ZoneInfo(schedule.timezone)
    local = slot.astimezone(zone)
    return PreviewSlot(
        schedule_id=schedule_id,
        utc=slot,
        local=local.isoformat(timespec="milliseconds" if slot.microsecond else "seconds"),
        offset=local.isoformat()[-6:],
        notes=notes_on(trigger_of(schedule), slot, zone),
    )


def _judge(
    schedule: Schedule, newest: Execution | None, at: datetime, now: datetime
) -> SlotVerdict:
    """Decide whether `at` is a slot of the schedule, and what became of the slot.

    `newest` is the schedule's newest record whose slot is not after `at`.
    """
    if newest is not None and newest.scheduled_for == at:
        return _recorded(schedule, newest)
    trigger = trigger_of(schedule)
    begin, end = find_start(schedule), schedule.end_at
    is_slot = trigger.count(at, at) == 1
    if not is_slot or (begin is not None and at < begin) or (end is not None and at > end):
        return SlotVerdict(
            schedule_id=schedule.id,
            verdict=Verdict.NEVER_DUE,
            explanation="The schedule has no slot at this instant.",
            slot_before=trigger.last_until(at - MILLISECOND),
            slot_after=trigger.next_after(at),
        )
    if newest is not None and newest.missed_until is not None and at <= newest.missed_until:
        return _recorded(schedule, newest)
    if at > now:
        return SlotVerdict(
            schedule_id=schedule.id,
            verdict=Verdict.PENDING,
            explanation="The slot is in the future. It is executed if the job and the schedule are "
            "active and unchanged then, `max_runs` is not reached and the policies allow it.",
        )
    return SlotVerdict(
        schedule_id=schedule.id,
        verdict=Verdict.NOT_RECORDED,
        explanation="This is a slot of the present schedule, but it has no record: at that time "
        "the schedule was paused, had another rule, did not exist or had reached `max_runs`, or "
        "retention has deleted the record. A slot that was due only now or during an outage may "
        "be recorded soon.",
    )


def _recorded(schedule: Schedule, execution: Execution) -> SlotVerdict:
    is_missed = execution.status is ExecutionStatus.MISSED
    reason = f" (reason: {execution.reason})" if execution.reason else ""
    explanation = f"The slot has an execution with the status {execution.status}{reason}."
    if is_missed:
        plural = "" if execution.missed_count == 1 else "s"
        explanation = (
            "The slot was missed: no process was scheduling at its time or in the 10 seconds after "
            "it, and the job's catch-up policy did not execute it. "
            f"Its record counts {execution.missed_count} missed slot{plural}."
        )
    return SlotVerdict(
        schedule_id=schedule.id,
        verdict=Verdict.MISSED if is_missed else Verdict.RECORDED,
        explanation=explanation,
        execution_id=execution.id,
        status=execution.status,
    )
