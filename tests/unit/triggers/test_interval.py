"""The interval trigger: slots are counted from the anchor, so they do not drift."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.triggers import IntervalTrigger
from tests.unit.triggers.oracle import DETERMINISTIC

ANCHOR = datetime(2026, 1, 1, 0, 0, 7, 250_000, tzinfo=UTC)
PERIOD = timedelta(seconds=90)
TRIGGER = IntervalTrigger(ANCHOR, PERIOD)
MILLISECOND = timedelta(milliseconds=1)

INSTANTS = st.integers(-10_000_000, 10_000_000).map(lambda n: ANCHOR + n * MILLISECOND)
PERIODS = st.integers(1, 5_000).map(lambda n: timedelta(seconds=n))


def test_the_first_slot_is_the_anchor() -> None:
    assert TRIGGER.next_after(ANCHOR - timedelta(days=400)) == ANCHOR
    assert TRIGGER.next_after(ANCHOR - MILLISECOND) == ANCHOR


def test_there_is_no_slot_before_the_anchor() -> None:
    assert TRIGGER.last_until(ANCHOR - MILLISECOND) is None
    assert TRIGGER.count(ANCHOR - timedelta(days=1), ANCHOR - MILLISECOND) == 0


def test_the_next_slot_is_strictly_after_the_instant() -> None:
    assert TRIGGER.next_after(ANCHOR) == ANCHOR + PERIOD
    assert TRIGGER.next_after(ANCHOR + PERIOD - MILLISECOND) == ANCHOR + PERIOD
    assert TRIGGER.next_after(ANCHOR + PERIOD) == ANCHOR + 2 * PERIOD


def test_the_last_slot_is_at_or_before_the_instant() -> None:
    assert TRIGGER.last_until(ANCHOR) == ANCHOR
    assert TRIGGER.last_until(ANCHOR + PERIOD - MILLISECOND) == ANCHOR
    assert TRIGGER.last_until(ANCHOR + PERIOD) == ANCHOR + PERIOD


def test_a_count_includes_both_ends_of_its_range() -> None:
    assert TRIGGER.count(ANCHOR, ANCHOR) == 1
    assert TRIGGER.count(ANCHOR, ANCHOR + PERIOD) == 2
    assert TRIGGER.count(ANCHOR + MILLISECOND, ANCHOR + PERIOD - MILLISECOND) == 0
    assert TRIGGER.count(ANCHOR + PERIOD, ANCHOR) == 0


def test_slots_do_not_drift_within_a_century() -> None:
    slot = TRIGGER.last_until(datetime(2100, 12, 31, tzinfo=UTC))
    assert slot is not None
    assert (slot - ANCHOR) % PERIOD == timedelta(0)


@pytest.mark.parametrize("days", [1, 999_999_999])
def test_there_is_no_slot_after_the_year_9999(days: int) -> None:
    trigger = IntervalTrigger(ANCHOR, timedelta(days=days))
    assert trigger.next_after(datetime.max.replace(tzinfo=UTC)) is None


@given(PERIODS, INSTANTS)
@DETERMINISTIC
def test_there_is_no_slot_between_the_last_and_the_next_one(
    period: timedelta, instant: datetime
) -> None:
    trigger = IntervalTrigger(ANCHOR, period)
    following, last = trigger.next_after(instant), trigger.last_until(instant)
    assert following is not None
    assert following > instant
    assert trigger.last_until(following) == following
    if last is None:
        assert following == ANCHOR
    else:
        assert last <= instant
        assert following - last == period
        assert trigger.next_after(last) == following


@given(PERIODS, INSTANTS, INSTANTS)
@DETERMINISTIC
def test_a_count_equals_the_number_of_slots_found_one_by_one(
    period: timedelta, first: datetime, last: datetime
) -> None:
    trigger = IntervalTrigger(ANCHOR, period)
    found = 0
    slot = trigger.next_after(first - MILLISECOND)
    while slot is not None and slot <= last:
        found += 1
        slot = trigger.next_after(slot)
    assert trigger.count(first, last) == found
