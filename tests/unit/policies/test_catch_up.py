"""A plan executes each due slot or counts it in the missed span."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.models.policy import CatchUpMode, CatchUpPolicy
from app.models.schedule import IntervalSchedule
from app.policies.catch_up import MAX_LATE_SLOTS, ON_TIME, plan

START = datetime(2026, 11, 23, 8, tzinfo=UTC)


def make_schedule(period: int, next_run: timedelta, **changes: object) -> IntervalSchedule:
    fields = {
        "id": "s",
        "interval_seconds": period,
        "anchor_at": START,
        "next_run": START + next_run,
    }
    return IntervalSchedule.model_validate(fields | changes)


@given(
    period=st.integers(1, 5_000),
    first=st.integers(1, 50),
    overdue=st.integers(0, 2_000_000),
    window=st.integers(0, 1_000_000),
    policy=st.sampled_from(CatchUpMode),
    runs_left=st.none() | st.integers(1, 20),
)
def test_a_plan_has_each_due_slot_exactly_once(
    period: int, first: int, overdue: int, window: int, policy: CatchUpMode, runs_left: int | None
) -> None:
    due = make_schedule(period, timedelta(seconds=first * period), max_runs=runs_left)
    now = START + timedelta(seconds=first * period + overdue)
    decided = plan(due, CatchUpPolicy(policy=policy, window_seconds=window), now)

    expected = START + timedelta(seconds=first * period)
    step = timedelta(seconds=period)
    if decided.missed is not None:
        assert decided.missed.first == expected
        assert decided.missed.last == expected + (decided.missed.count - 1) * step
        assert now - decided.missed.last > ON_TIME
        expected += decided.missed.count * step
    for slot in decided.slots:
        assert slot == expected
        expected += step
    assert decided.next_run == expected
    if runs_left is None:
        assert expected > now
    else:
        assert len(decided.slots) <= runs_left
        assert expected > now or len(decided.slots) == runs_left
    late = decided.slots[: decided.late_count]
    assert all(now - slot > ON_TIME for slot in late)
    assert len(late) <= {"one": 1, "all": MAX_LATE_SLOTS, "none": 0}[policy]
    assert all(now - slot <= timedelta(seconds=window) for slot in late)


def test_a_slot_exactly_ten_seconds_old_is_on_time() -> None:
    due = make_schedule(3600, timedelta(hours=1))
    none = CatchUpPolicy(policy=CatchUpMode.NONE)
    assert plan(due, none, START + timedelta(hours=1) + ON_TIME).slots == (due.next_run,)
    late = plan(due, none, START + timedelta(hours=1) + ON_TIME + timedelta(milliseconds=1))
    assert late.slots == ()
    assert late.missed is not None
