"""Which of a schedule's due slots run, and which are counted as missed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.models.policy import CatchUp, CatchUpPolicy
from app.models.schedule import Schedule, next_slot, runs_left, trigger_of

ON_TIME = timedelta(seconds=10)
"""A slot recorded no later than this after its time runs whatever the policy says."""

MOST_LATE_SLOTS = 1_000
"""How many late slots `all` runs at the most: the latest ones."""

SPREAD = timedelta(milliseconds=100)
"""The distance between the starts of late slots: ten a second."""

_MILLISECOND = timedelta(milliseconds=1)
_NO_SLOTS: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class MissedSpan:
    """Consecutive slots that do not run: from `first` through `last`, `count` of them."""

    first: datetime
    last: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a schedule's slots up to now.

    `missed` is recorded first, alone; then `runs`; then the cursor moves to `next_run`.
    """

    missed: MissedSpan | None
    runs: tuple[datetime, ...]
    late_runs: int
    """How many of `runs`, the first ones, are late."""
    next_run: datetime | None


def plan(schedule: Schedule, catch_up: CatchUp, now: datetime) -> Plan:
    """Decide on every slot of `schedule` from its cursor through `now`.

    The cursor must be at or before `now`. However long the outage, the work is bounded: late
    slots are counted by arithmetic and at most `MOST_LATE_SLOTS` are named.
    """
    cursor = schedule.next_run
    if cursor is None or cursor > now:
        return Plan(None, (), 0, cursor)
    late_until = _last_before(schedule, now - ON_TIME)
    if late_until is None or late_until < cursor:
        late, missed = _NO_SLOTS, None
    else:
        late = _late_runs(schedule, catch_up, max(cursor, now - catch_up.window), late_until)
        missed = _missed(schedule, cursor, late, late_until)
    on_time = _slots(schedule, max(cursor, now - ON_TIME), now)
    runs = (*late, *on_time)
    left = runs_left(schedule)
    if left is not None and len(runs) > left:
        # Some of them may be skipped and so not count: what is left over is decided again.
        return Plan(missed, runs[:left], min(len(late), left), runs[left])
    return Plan(missed, runs, len(late), next_slot(schedule, now))


def _late_runs(
    schedule: Schedule, catch_up: CatchUp, oldest: datetime, late_until: datetime
) -> tuple[datetime, ...]:
    """The late slots that run, in order: none older than `oldest`."""
    match catch_up.policy:
        case CatchUpPolicy.NONE:
            return ()
        case CatchUpPolicy.ONE:
            return (late_until,) if late_until >= oldest else ()
        case CatchUpPolicy.ALL:
            trigger = trigger_of(schedule)
            latest: list[datetime] = []
            slot: datetime | None = late_until
            while slot is not None and slot >= oldest and len(latest) < MOST_LATE_SLOTS:
                latest.append(slot)
                slot = trigger.last_until(slot - _MILLISECOND)
            return tuple(reversed(latest))


def _missed(
    schedule: Schedule, cursor: datetime, late: tuple[datetime, ...], late_until: datetime
) -> MissedSpan | None:
    """The late slots before the first that runs: those that run are always the latest."""
    last = _last_before(schedule, late[0]) if late else late_until
    if last is None or last < cursor:
        return None
    return MissedSpan(cursor, last, trigger_of(schedule).count(cursor, last))


def _slots(schedule: Schedule, first: datetime, last: datetime) -> tuple[datetime, ...]:
    """The slots in [first, last]."""
    slots: list[datetime] = []
    slot = next_slot(schedule, first - _MILLISECOND)
    while slot is not None and slot <= last:
        slots.append(slot)
        slot = next_slot(schedule, slot)
    return tuple(slots)


def _last_before(schedule: Schedule, instant: datetime) -> datetime | None:
    """The last slot strictly before `instant`, not after the schedule's end."""
    limit = instant - _MILLISECOND
    if schedule.end_at is not None:
        limit = min(limit, schedule.end_at)
    return trigger_of(schedule).last_until(limit)
