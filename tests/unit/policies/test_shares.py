"""How the free slots of a process are divided among the owners of due executions."""

from collections import Counter

import pytest

from app.policies.shares import divide_slots, may_take


def take_until_nobody_may(owners: int, slots: int) -> tuple[dict[str, int], int]:
    """Let owners whose executions never end take slots, round after round. Returns what each holds,
    and how many slots are free."""
    held: Counter[str] = Counter()
    names = [f"owner {n}" for n in range(owners)]
    while taken := divide_freely(names, held=dict(held), free=slots - held.total(), slots=slots):
        held.update(taken)
    return dict(held), slots - held.total()


def divide_freely(
    names: list[str], *, held: dict[str, int], free: int, slots: int = 5
) -> dict[str, int]:
    room = dict.fromkeys(names, 1_000)
    return divide_slots(
        names, held=held, room=room, free=free, slots=slots, most=500, most_each=500
    )


@pytest.mark.parametrize(
    ("owners", "most", "free"), [(1, 80, 20), (2, 45, 11), (5, 18, 10), (20, 5, 10)]
)
def test_owners_whose_executions_never_end_leave_slots_free(
    owners: int, most: int, free: int
) -> None:
    held, left = take_until_nobody_may(owners, 100)
    assert len(held) == owners
    assert max(held.values()) <= most
    assert left >= free
    assert may_take(0, free=left, slots=100)


@pytest.mark.parametrize(("slots", "held"), [(1, 1), (2, 2), (4, 4), (5, 4), (9, 8), (10, 8)])
def test_one_owner_takes_all_slots_only_of_a_process_with_at_most_four(
    slots: int, held: int
) -> None:
    assert take_until_nobody_may(1, slots) == ({"owner 0": held}, slots - held)


def test_the_owners_take_one_slot_at_a_time_in_turn() -> None:
    assert divide_freely(["a", "b", "c"], held={}, free=2) == {"a": 1, "b": 1}
    assert divide_freely(["a", "b", "c"], held={}, free=4) == {"a": 2, "b": 1, "c": 1}


def test_the_last_key_is_the_owner_whose_turn_was_the_last() -> None:
    assert list(divide_freely(["a", "b", "c"], held={}, free=4)) == ["b", "c", "a"]


def test_an_owner_takes_no_more_than_it_may_run_in_all_processes() -> None:
    room = {"a": 0, "b": 1, "c": 9}
    slots = divide_slots("abc", held={}, room=room, free=100, slots=100, most=100, most_each=100)
    assert slots == {"b": 1, "c": 9}


def test_a_division_is_limited_in_all_and_for_each_owner() -> None:
    room = dict.fromkeys("abc", 9)
    assert divide_slots("abc", held={}, room=room, free=100, slots=100, most=5, most_each=2) == {
        "a": 2,
        "b": 2,
        "c": 1,
    }


def test_an_owner_at_its_share_leaves_the_slots_to_the_others() -> None:
    assert divide_freely(["a", "b"], held={"a": 80}, free=20, slots=100) == {"b": 10}


def test_owners_that_come_one_after_the_other_leave_slots_free() -> None:
    held: Counter[str] = Counter()
    for n in range(11):
        name, free = f"owner {n}", 100 - held.total()
        held.update(divide_freely([name], held=held, free=free, slots=100))
    assert list(held.values()) == [80, 10, *[1] * 9]
    assert may_take(0, free=1, slots=100)
    assert not may_take(1, free=10, slots=100)
    assert may_take(1, free=11, slots=100)
