"""Decides which due slots of a schedule are executed, and which are counted as missed."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.models.coverage import Coverage, Gap
from app.models.policy import CatchUpMode, CatchUpPolicy
from app.models.schedule import MILLISECOND, Schedule, next_slot, runs_left, trigger_of

MAX_LATE_SLOTS = 1_000
"""The maximum number of late slots of a gap that the policy `all` executes. It executes the latest
ones."""

LATE_START_INTERVAL = timedelta(milliseconds=100)
"""The time between the starts of two late executions: ten start per second."""


@dataclass(frozen=True, slots=True)
class MissedSpan:
    """`count` consecutive slots that are not executed, from `first` through `last`."""

    first: datetime
    last: datetime
    count: int


@dataclass(frozen=True, slots=True)
class PlannedSlot:
    """A slot that is executed."""

    at: datetime
    start_at: datetime | None = None
    """When a late slot may start; None if the slot is on time."""


@dataclass(slots=True)
class Plan:
    """What happens to the slots of a schedule, in order.

    Three writes follow it: the records of `missed`, the records of `slots`, and the new `next_run`.
    """

    next_run: datetime | None
    """The first slot on which the plan does not decide."""
    missed: list[MissedSpan] = field(default_factory=list)
    slots: list[PlannedSlot] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The number of records that the plan needs."""
        return len(self.missed) + len(self.slots)


def plan(
    schedule: Schedule, catch_up: CatchUpPolicy, until: datetime, coverage: Coverage, *, most: int
) -> Plan:
    """Decide on the slots of `schedule` from its `next_run` through `until`, at most about `most`.

    `until` must not be after `coverage.covered_until`. The decision on a slot depends only on the
    schedule, the policy and the gap of the slot, so it is the same in every process and at any
    time. The missed slots of a gap are recorded before its first execution. Its executions may
    continue in the next plan.

    The work is bounded, however long a gap is: missed slots are counted by arithmetic.
    """
    if schedule.next_run is None or schedule.next_run > until:
        return Plan(schedule.next_run)
    left = runs_left(schedule)
    # A plan has at most `left` executions. Some of them may be skipped, and skipped slots do not
    # count towards `max_runs`. Then the next plan decides on the slots after them.
    allowed = most if left is None else min(most, left)
    decided = Plan(next_slot(schedule, schedule.next_run - MILLISECOND))
    while (slot := decided.next_run) is not None and slot <= until:
        if len(decided.slots) >= allowed or decided.size >= most:
            break
        gap = coverage.find_gap(slot)
        if gap is None:
            decided.slots.append(PlannedSlot(slot))
            decided.next_run = next_slot(schedule, slot)
        else:
            _decide_gap(decided, schedule, catch_up, gap, allowed)
    return decided


def _decide_gap(
    decided: Plan, schedule: Schedule, catch_up: CatchUpPolicy, gap: Gap, allowed: int
) -> None:
    """Add the slots of a gap to the plan, from `decided.next_run` on."""
    first = decided.next_run
    last = _find_last_until(schedule, gap.until)
    if first is None or last is None:
        raise ValueError("the gap has no slot of the schedule")
    room = allowed - len(decided.slots)
    late = _list_late(schedule, catch_up, gap, first, last, most=room + 1)
    last_missed = _find_last_until(schedule, late[0].at - MILLISECOND) if late else last
    if last_missed is not None and last_missed >= first:
        count = trigger_of(schedule).count(first, last_missed)
        decided.missed.append(MissedSpan(first, last_missed, count))
    decided.slots += late[:room]
    decided.next_run = late[room].at if len(late) > room else next_slot(schedule, last)


def _list_late(
    schedule: Schedule,
    catch_up: CatchUpPolicy,
    gap: Gap,
    first: datetime,
    last: datetime,
    *,
    most: int,
) -> list[PlannedSlot]:
    """Return the executed slots of a gap from the slot `first` on, at most `most`, in order.

    `last` is the last slot of the gap. Only the slots that are returned are computed, because a
    long gap is decided in many plans.
    """
    oldest = max(gap.after + MILLISECOND, gap.found_at - catch_up.window)
    match catch_up.policy:
        case CatchUpMode.NONE:
            return []
        case CatchUpMode.ONE:
            return [PlannedSlot(last, gap.found_at)] if last >= oldest else []
        case CatchUpMode.ALL:
            trigger = trigger_of(schedule)
            executed = min(MAX_LATE_SLOTS, trigger.count(oldest, last))
            left = trigger.count(first, last)
            slot = first if left <= executed else _find_nth_last(schedule, last, executed)
            start_at = gap.found_at + max(0, executed - left) * LATE_START_INTERVAL
            late: list[PlannedSlot] = []
            while slot is not None and slot <= last and len(late) < most:
                late.append(PlannedSlot(slot, start_at))
                slot, start_at = next_slot(schedule, slot), start_at + LATE_START_INTERVAL
            return late


def _find_nth_last(schedule: Schedule, last: datetime, n: int) -> datetime | None:
    """Return the slot `n - 1` slots before `last`; None if `n` is 0."""
    slot: datetime | None = last if n else None
    for _ in range(n - 1):
        if slot is not None:
            slot = trigger_of(schedule).last_until(slot - MILLISECOND)
    return slot


def _find_last_until(schedule: Schedule, instant: datetime) -> datetime | None:
    """Return the last slot at or before `instant`, but not after the schedule's end."""
    limit = instant if schedule.end_at is None else min(instant, schedule.end_at)
    return trigger_of(schedule).last_until(limit)
