"""The one-time trigger: a single slot."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from app.triggers import OneTimeTrigger

RUN_AT = datetime(2026, 7, 1, 12, tzinfo=UTC)
TRIGGER = OneTimeTrigger(RUN_AT)
MILLISECOND = timedelta(milliseconds=1)
INSTANTS = st.integers(-50, 50).map(lambda n: RUN_AT + n * MILLISECOND)


def test_next_after_returns_the_slot_only_before_its_instant() -> None:
    assert TRIGGER.next_after(RUN_AT - MILLISECOND) == RUN_AT
    assert TRIGGER.next_after(RUN_AT) is None


def test_last_until_returns_the_slot_from_its_instant_on() -> None:
    assert TRIGGER.last_until(RUN_AT - MILLISECOND) is None
    assert TRIGGER.last_until(RUN_AT) == RUN_AT
    assert TRIGGER.last_until(RUN_AT + MILLISECOND) == RUN_AT


def test_a_count_includes_both_ends_of_its_range() -> None:
    assert TRIGGER.count(RUN_AT, RUN_AT) == 1
    assert TRIGGER.count(RUN_AT + MILLISECOND, RUN_AT + 2 * MILLISECOND) == 0
    assert TRIGGER.count(RUN_AT - 2 * MILLISECOND, RUN_AT - MILLISECOND) == 0
    assert TRIGGER.count(RUN_AT + MILLISECOND, RUN_AT - MILLISECOND) == 0


@given(INSTANTS, INSTANTS)
@settings(deadline=None, derandomize=True, max_examples=100, database=None)
def test_a_count_is_consistent_with_the_next_and_the_last_slot(
    first: datetime, last: datetime
) -> None:
    following = TRIGGER.next_after(first - MILLISECOND)
    assert TRIGGER.count(first, last) == int(following is not None and following <= last)
    assert (TRIGGER.last_until(first) is None) == (TRIGGER.next_after(first) is not None)
