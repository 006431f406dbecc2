"""Decides which due slots of a schedule are executed, and which are counted as missed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.models.policy import CatchUpMode, CatchUpPolicy
from app.models.schedule import MILLISECOND, Schedule, next_slot, runs_left, trigger_of

ON_TIME = timedelta(seconds=10)
"""A slot that is at most this old is on time. It is executed under every policy."""

MAX_LATE_SLOTS = 1_000
"""The maximum number of late slots that the policy `all` executes. It executes the latest ones."""

LATE_START_INTERVAL = timedelta(milliseconds=100)
"""The time between the starts of two late executions: ten start per second."""

_NO_SLOTS: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class MissedSpan:
    """`count` consecutive slots that are not executed, from `first` through `last`."""

    first: datetime
    last: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to the slots of a schedule up to now.

    Three writes follow it: the record of `missed`, the records of `slots`, and the new `next_run`.
    """

    missed: MissedSpan | None
    slots: tuple[datetime, ...]
    """The slots that are executed, in order."""
    late_count: int
    """How many of `slots` are late. These are the first ones."""
    next_run: datetime | None


def plan(schedule: Schedule, catch_up: CatchUpPolicy, now: datetime) -> Plan:
    """Decide on every slot of `schedule` from its `next_run` through `now`, the database's instant.

    The plan has no slots if `next_run` is None or after `now`. The work is bounded, however long an
    outage was: missed slots are counted by arithmetic, and at most `MAX_LATE_SLOTS` late slots are
    listed.
    """
    first = schedule.next_run
    if first is None or first > now:
        return Plan(None, (), 0, first)
    late_until = _find_last_before(schedule, now - ON_TIME)
    if late_until is None or late_until < first:
        late, missed = _NO_SLOTS, None
    else:
        late = _select_late(schedule, catch_up, max(first, now - catch_up.window), late_until)
        missed = _count_missed(schedule, first, late, late_until)
    on_time = _list_slots(schedule, max(first, now - ON_TIME), now)
    slots = (*late, *on_time)
    left = runs_left(schedule)
    if left is not None and len(slots) > left:
        # Only `left` more executions are allowed. Some of these slots may be skipped, and skipped
        # slots do not count. So `next_run` stays on the next slot, and the next plan decides on it.
        return Plan(missed, slots[:left], min(len(late), left), slots[left])
    return Plan(missed, slots, len(late), next_slot(schedule, now))


def _select_late(
    schedule: Schedule, catch_up: CatchUpPolicy, oldest: datetime, late_until: datetime
) -> tuple[datetime, ...]:
    """Return the late slots that are executed, in order. None of them is before `oldest`."""
    match catch_up.policy:
        case CatchUpMode.NONE:
            return ()
        case CatchUpMode.ONE:
            return (late_until,) if late_until >= oldest else ()
        case CatchUpMode.ALL:
            trigger = trigger_of(schedule)
            latest: list[datetime] = []
            slot: datetime | None = late_until
            while slot is not None and slot >= oldest and len(latest) < MAX_LATE_SLOTS:
                latest.append(slot)
                slot = trigger.last_until(slot - MILLISECOND)
            return tuple(reversed(latest))


def _count_missed(
    schedule: Schedule, first: datetime, late: tuple[datetime, ...], late_until: datetime
) -> MissedSpan | None:
    """Return the span of late slots before the first executed one, which are all missed."""
    last = _find_last_before(schedule, late[0]) if late else late_until
    if last is None or last < first:
        return None
    return MissedSpan(first, last, trigger_of(schedule).count(first, last))


def _list_slots(schedule: Schedule, first: datetime, last: datetime) -> tuple[datetime, ...]:
    """Return the slots in [first, last]."""
    slots: list[datetime] = []
    slot = next_slot(schedule, first - MILLISECOND)
    while slot is not None and slot <= last:
        slots.append(slot)
        slot = next_slot(schedule, slot)
    return tuple(slots)


def _find_last_before(schedule: Schedule, instant: datetime) -> datetime | None:
    """Return the last slot strictly before `instant`, but not after the schedule's end."""
    limit = instant - MILLISECOND
    if schedule.end_at is not None:
        limit = min(limit, schedule.end_at)
    return trigger_of(schedule).last_until(limit)
