"""A plan executes each due slot or counts it in a missed span, the same from every start."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.coverage import Coverage, Gap
from app.models.policy import CatchUpMode, CatchUpPolicy
from app.models.schedule import CronSchedule, IntervalSchedule, OneTimeSchedule
from app.policies.catch_up import MAX_LATE_SLOTS, Plan, PlannedSlot, plan

START = datetime(2026, 11, 23, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
MOST = 1_000


def make_schedule(period: int, next_run: timedelta, **changes: object) -> IntervalSchedule:
    fields = {
        "id": "s",
        "interval_seconds": period,
        "anchor_at": START,
        "next_run": START + next_run,
    }
    return IntervalSchedule.model_validate(fields | changes)


def make_gap(after: timedelta, until: timedelta) -> Gap:
    return Gap(START + after, START + until, START + until + 10 * SECOND)


def make_coverage(*gaps: Gap) -> Coverage:
    return Coverage(START + timedelta(days=36_500), gaps)


def catch_up(policy: str, window: int = 86_400) -> CatchUpPolicy:
    return CatchUpPolicy(policy=CatchUpMode(policy), window_seconds=window)


@st.composite
def make_gaps(draw: st.DrawFn) -> list[Gap]:
    """Draw up to four disjoint gaps in the first 2,000 seconds."""
    bounds = sorted(draw(st.sets(st.integers(0, 2_000), max_size=8)))
    pairs = zip(bounds[::2], bounds[1::2], strict=False)
    return [make_gap(after * SECOND, until * SECOND) for after, until in pairs]


def list_decisions(decided: Plan, period: int) -> dict[datetime, str]:
    """Return what becomes of each slot. Each slot has one decision."""
    decisions = {slot.at: "run" for slot in decided.slots}
    for span in decided.missed:
        for n in range(span.count):
            slot = span.first + n * period * SECOND
            assert slot not in decisions
            decisions[slot] = "missed"
        assert span.last == slot
    return decisions


@given(
    period=st.integers(5, 500),
    until=st.integers(0, 2_500),
    gaps=make_gaps(),
    window=st.integers(0, 2_000),
    policy=st.sampled_from(CatchUpMode),
    runs_left=st.none() | st.integers(1, 20),
    most=st.integers(1, 50),
)
def test_each_due_slot_has_one_decision_and_a_run_outside_of_gaps(
    period: int,
    until: int,
    gaps: list[Gap],
    window: int,
    policy: CatchUpMode,
    runs_left: int | None,
    most: int,
) -> None:
    due = make_schedule(period, timedelta(seconds=period), max_runs=runs_left)
    now = START + timedelta(seconds=until)
    decided = plan(due, catch_up(policy, window), now, make_coverage(*gaps), most=most)

    decisions = list_decisions(decided, period)
    expected = [START + (n + 1) * period * SECOND for n in range(len(decisions))]
    assert sorted(decisions) == expected
    assert decided.next_run == START + (len(decisions) + 1) * period * SECOND
    assert len(decided.slots) <= min(most, runs_left or most)
    assert decided.size <= most + 1
    if decided.size < most and len(decided.slots) != runs_left:
        assert decided.next_run > now
    for slot, decision in decisions.items():
        gap = make_coverage(*gaps).find_gap(slot)
        assert decision == "run" or gap is not None
        if gap is not None and decision == "run":
            assert slot >= gap.found_at - timedelta(seconds=window)
    starts = [slot.start_at for slot in decided.slots]
    assert all(
        (start is None) == (make_coverage(*gaps).find_gap(slot.at) is None)
        for start, slot in zip(starts, decided.slots, strict=True)
    )


@given(
    period=st.integers(5, 300),
    gaps=make_gaps(),
    window=st.integers(0, 2_000),
    policy=st.sampled_from(CatchUpMode),
    untils=st.lists(st.integers(0, 2_500), max_size=5),
    most=st.integers(1, 40),
)
def test_the_decision_on_a_slot_depends_neither_on_when_nor_in_how_many_steps_it_is_made(
    period: int,
    gaps: list[Gap],
    window: int,
    policy: CatchUpMode,
    untils: list[int],
    most: int,
) -> None:
    """Any process at any time decides the same, so that no slot is both executed and missed."""
    coverage, wanted = make_coverage(*gaps), catch_up(policy, window)
    first = make_schedule(period, timedelta(seconds=period))
    at_once = plan(first, wanted, START + timedelta(seconds=2_500), coverage, most=100_000)
    expected = list_decisions(at_once, period)

    in_steps: dict[datetime, str] = {}
    schedule = first
    for until in [*sorted(untils), *[2_500] * 10]:
        now = START + timedelta(seconds=until)
        decided = plan(schedule, wanted, now, coverage, most=most)
        in_steps |= list_decisions(decided, period)
        schedule = schedule.model_copy(update={"next_run": decided.next_run})
    assert in_steps.items() <= expected.items()


def test_without_a_gap_every_slot_is_executed_however_late() -> None:
    due = make_schedule(3_600, HOUR)
    decided = plan(due, catch_up("none"), START + 500 * HOUR, make_coverage(), most=MOST)
    assert len(decided.slots) == 500
    assert decided.missed == []


def test_a_gap_includes_its_last_instant_and_not_its_first() -> None:
    due = make_schedule(3_600, HOUR)
    for first, last, late in [(1, 3, [2, 3]), (0, 2, [1, 2])]:
        gap = make_gap(first * HOUR, last * HOUR)
        decided = plan(due, catch_up("none"), START + 3 * HOUR, make_coverage(gap), most=MOST)
        (missed,) = decided.missed
        assert (missed.first, missed.last) == (START + late[0] * HOUR, START + late[-1] * HOUR)


def test_each_gap_is_decided_on_its_own() -> None:
    due = make_schedule(3_600, HOUR)
    gaps = [make_gap(0 * HOUR, 3 * HOUR), make_gap(5 * HOUR, 8 * HOUR)]
    decided = plan(due, catch_up("one"), START + 9 * HOUR, make_coverage(*gaps), most=MOST)
    assert [slot.at for slot in decided.slots] == [START + n * HOUR for n in (3, 4, 5, 8, 9)]
    spans = [(span.first, span.last, span.count) for span in decided.missed]
    assert spans == [(START + HOUR, START + 2 * HOUR, 2), (START + 6 * HOUR, START + 7 * HOUR, 2)]


def test_all_executes_the_latest_thousand_slots_of_each_gap_ten_per_second() -> None:
    due = make_schedule(1, SECOND)
    gap = make_gap(timedelta(0), timedelta(seconds=5_000))
    now = START + timedelta(seconds=5_000)
    decided = plan(due, catch_up("all"), now, make_coverage(gap), most=MOST)
    assert [span.count for span in decided.missed] == [4_000]
    # The record of the missed slots is one of the thousand records of this plan.
    assert len(decided.slots) == MAX_LATE_SLOTS
    starts = [slot.start_at for slot in decided.slots]
    step = timedelta(milliseconds=100)
    assert starts == [gap.found_at + n * step for n in range(len(starts))]


@pytest.mark.parametrize("slots", [50, 1_500])
def test_the_executions_of_a_gap_continue_in_the_next_plan(slots: int) -> None:
    """With the slots and the starts that one plan would have had."""
    due = make_schedule(1, SECOND)
    gap = make_gap(timedelta(0), slots * SECOND)
    now, coverage = gap.until, make_coverage(gap)
    at_once = plan(due, catch_up("all"), now, coverage, most=10_000)
    in_steps: list[PlannedSlot] = []
    while due.next_run is not None and due.next_run <= now:
        decided = plan(due, catch_up("all"), now, coverage, most=7)
        in_steps += decided.slots
        due = due.model_copy(update={"next_run": decided.next_run})
    assert in_steps == at_once.slots
    assert len(in_steps) == min(slots, MAX_LATE_SLOTS)


def test_the_window_counts_from_the_end_of_the_gap() -> None:
    due = make_schedule(60, 60 * SECOND)
    gap = make_gap(timedelta(0), HOUR)
    decided = plan(due, catch_up("all", 310), START + 100 * HOUR, make_coverage(gap), most=100_000)
    assert decided.slots[0].at == gap.found_at - timedelta(seconds=310)


def test_a_slot_at_the_start_of_the_window_is_executed() -> None:
    due = OneTimeSchedule(id="s", run_at=START + HOUR, next_run=START + HOUR)
    gap = make_gap(timedelta(0), 2 * HOUR)
    age = int((gap.found_at - START - HOUR).total_seconds())
    for policy in ("one", "all"):
        for window, slots in ((age, [START + HOUR]), (age - 1, [])):
            decided = plan(
                due, catch_up(policy, window), gap.found_at, make_coverage(gap), most=MOST
            )
            assert [slot.at for slot in decided.slots] == slots


def test_a_schedule_that_ends_inside_a_gap_has_no_further_slot() -> None:
    due = make_schedule(3_600, HOUR, end_at=START + 2 * HOUR + SECOND)
    gap = make_gap(timedelta(0), 9 * HOUR)
    decided = plan(due, catch_up("one"), START + 9 * HOUR, make_coverage(gap), most=MOST)
    assert [slot.at for slot in decided.slots] == [START + 2 * HOUR]
    assert [span.count for span in decided.missed] == [1]
    assert decided.next_run is None


def test_a_late_one_time_schedule_is_executed_or_missed() -> None:
    due = OneTimeSchedule(id="s", run_at=START + HOUR, next_run=START + HOUR)
    coverage = make_coverage(make_gap(timedelta(0), 2 * HOUR))
    now = START + 2 * HOUR
    assert [s.at for s in plan(due, catch_up("one"), now, coverage, most=MOST).slots] == [
        START + HOUR
    ]
    for policy in (catch_up("none"), catch_up("one", window=60)):
        decided = plan(due, policy, now, coverage, most=MOST)
        assert ([span.count for span in decided.missed], decided.slots) == ([1], [])
        assert decided.next_run is None


def test_late_slots_follow_the_zone_through_a_change_of_the_clock() -> None:
    """On 29 March 2026 the clock in Berlin goes from 02:00 to 03:00."""
    day = datetime(2026, 3, 28, 1, 30, tzinfo=UTC)  # 02:30 in Berlin
    due = CronSchedule(id="s", cron_expression="30 2 * * *", timezone="Europe/Berlin", next_run=day)
    gap = Gap(day - HOUR, day + timedelta(days=3), day + timedelta(days=3, seconds=10))
    decided = plan(due, catch_up("all", 864_000), gap.found_at, make_coverage(gap), most=MOST)
    hours = [slot.at.strftime("%d %H:%M") for slot in decided.slots]
    assert hours == ["28 01:30", "29 01:00", "30 00:30", "31 00:30"]
