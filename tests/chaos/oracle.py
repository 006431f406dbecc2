"""Which slots must have a record and which may have one, computed from the driver's calls.

A slot must be recorded if the schedule names it in every state that the job may have at that
instant. It may be recorded if the schedule names it in at least one of them. From the request to
the response of a call, and after a call without a response, the job may have two states. A slot in
a gap, in which no process scheduled, is late, and the catch-up policy decides about it. This module
uses no code of the service.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tests.chaos.evidence import (
    Call,
    Gap,
    JobDefinition,
    Result,
    ScheduleDefinition,
    ScheduleType,
)

SlotKey = tuple[str, str]
"""The name of a job and the key of its schedule."""

MAX_LATE_SLOTS = 1_000
"""The most slots of a gap that the catch-up policy `all` executes: the latest ones."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_NO_SLOTS: frozenset[datetime] = frozenset()


@dataclass(frozen=True, slots=True)
class Expected:
    """The slots of one schedule."""

    must: frozenset[datetime]
    """Each has a record of its own, or lies in a `missed` record."""
    may: frozenset[datetime]
    """No other slot has a record."""
    must_run: frozenset[datetime] = _NO_SLOTS
    """Slots in `must` that have a record of their own, which is not `missed`."""
    may_miss: frozenset[datetime] = _NO_SLOTS
    """Slots in `may` that may lie in a `missed` record."""
    must_miss: frozenset[datetime] = _NO_SLOTS
    """Slots in `must` that lie in a `missed` record."""
    max_runs: int | None = None

    def limit(self, runs: Iterable[datetime]) -> "Expected":
        """Return the slots up to the one with which `max_runs` is reached.

        `runs` are the slots with a record of their own that is neither `missed` nor `skipped`.
        """
        ordered = sorted(runs)
        if self.max_runs is None or len(ordered) < self.max_runs:
            return self
        last = ordered[self.max_runs - 1]

        def cut(slots: frozenset[datetime]) -> frozenset[datetime]:
            return frozenset(slot for slot in slots if slot <= last)

        return Expected(
            must=cut(self.must),
            may=cut(self.may),
            must_run=cut(self.must_run),
            may_miss=cut(self.may_miss),
            must_miss=cut(self.must_miss),
            max_runs=self.max_runs,
        )


@dataclass(frozen=True, slots=True)
class State:
    """A job at an instant. Without a definition there is no job."""

    definition: JobDefinition | None = None
    active: bool = False


@dataclass(frozen=True, slots=True)
class Era:
    """A time (since, until] and the states of which the job has one during all of it, or changes
    from one to another once."""

    since: datetime
    until: datetime
    states: frozenset[State]


def compute_expected_slots(
    calls: Sequence[Call], *, until: datetime, gaps: Sequence[Gap] | None = None
) -> dict[SlotKey, Expected]:
    """Return the expected slots of every schedule.

    `until`: the end of the chaos run, for jobs that were never paused. `gaps`: None if each slot
    may be late.
    """
    by_job: dict[str, list[Call]] = {}
    for call in calls:
        by_job.setdefault(call.job, []).append(call)
    expected: dict[SlotKey, Expected] = {}
    for job, history in by_job.items():
        eras = list(list_eras(history, until=until))
        for schedule in _latest_schedules(history):
            slots = _find_slots(schedule, eras)
            job_definition = next(c.definition for c in history if c.definition is not None)
            expected[job, schedule.key] = _decide_late(slots, gaps, job_definition)
    return expected


def list_eras(calls: Iterable[Call], *, until: datetime) -> Iterator[Era]:
    """Return what is known about one job at each time."""
    states = frozenset({State()})
    since = _LONG_AGO
    for call in sorted(calls, key=lambda call: call.sent_at):
        if call.result is Result.FAILED:
            continue
        changed = frozenset(_apply(call, state) for state in states)
        if changed == states:
            continue
        yield Era(since, call.sent_at, states)
        if call.result is Result.UNKNOWN:
            states, since = states | changed, call.sent_at
        else:
            yield Era(call.sent_at, call.ended_at, states | changed)
            states, since = changed, call.ended_at
    yield Era(since, until, states)


def _apply(call: Call, state: State) -> State:
    if call.verb == "create":
        return State(call.definition, active=True)
    if state.definition is None:
        return state
    match call.verb:
        case "edit" if call.definition is not None:
            return replace(state, definition=call.definition)
        case "pause":
            return replace(state, active=False)
        case "resume":
            return replace(state, active=True)
        case "delete":
            return State()
    return state


def list_slots(
    schedule: ScheduleDefinition, after: datetime, until: datetime
) -> Iterator[datetime]:
    """Return the slots in (after, until]."""
    if schedule.type is ScheduleType.ONE_TIME:
        if schedule.run_at is not None and after < schedule.run_at <= until:
            yield schedule.run_at
        return
    # Cron's `*/n` counts from the beginning of each minute, and n divides 60.
    anchor = _EPOCH if schedule.type is ScheduleType.CRON else schedule.anchor
    if anchor is None or schedule.period is None:
        return
    n = max(0, (after - anchor) // schedule.period + 1)
    while anchor + n * schedule.period <= until:
        yield anchor + n * schedule.period
        n += 1


def _latest_schedules(calls: Iterable[Call]) -> list[ScheduleDefinition]:
    """Return each schedule that the job may ever have had, in its last form."""
    definitions = (call.definition for call in calls if call.definition is not None)
    return list({s.key: s for one in definitions for s in one.schedules}.values())


def _find_slots(schedule: ScheduleDefinition, eras: Iterable[Era]) -> Expected:
    must: set[datetime] = set()
    may: set[datetime] = set()
    for era in eras:
        rules = [_find_rule(state, schedule.key) for state in era.states]
        slots = [
            set() if rule is None else set(list_slots(rule, era.since, era.until)) for rule in rules
        ]
        must |= set.intersection(*slots)
        may |= set.union(*slots)
    return Expected(frozenset(must), frozenset(may), max_runs=schedule.max_runs)


def _find_rule(state: State, key: str) -> ScheduleDefinition | None:
    """Return the schedule, or None if it has no slots in this state."""
    if state.definition is None or not state.active:
        return None
    return next((s for s in state.definition.schedules if s.key == key and s.active), None)


def _decide_late(expected: Expected, gaps: Sequence[Gap] | None, job: JobDefinition) -> Expected:
    """Decide which slots run and which may be missed. No edit changes the catch-up policy."""
    if gaps is None:
        return replace(expected, may_miss=expected.may)
    run: set[datetime] = set(expected.must)
    may_miss: set[datetime] = set()
    must_miss: set[datetime] = set()
    for gap in gaps:
        late = {slot for slot in expected.may if gap.start < slot <= gap.end}
        run -= late
        if late <= expected.must:
            chosen = choose_late_slots(late, gap, policy=job.catch_up, window=job.window)
            run |= chosen
            may_miss |= late - chosen
            must_miss |= late - chosen
        else:  # which slot is the latest one is not known
            may_miss |= late
            must_miss |= late & expected.must if job.catch_up == "none" else set()
    return replace(
        expected,
        must_run=frozenset(run),
        may_miss=frozenset(may_miss),
        must_miss=frozenset(must_miss),
    )


def choose_late_slots(
    late: Iterable[datetime], gap: Gap, *, policy: str, window: timedelta
) -> set[datetime]:
    """Return which slots of a gap run. The others lie in one `missed` record."""
    oldest = (gap.found_at or gap.end) - window
    recent = sorted(slot for slot in late if slot >= oldest)
    match policy:
        case "one":
            return set(recent[-1:])
        case "all":
            return set(recent[-MAX_LATE_SLOTS:])
    return set()
