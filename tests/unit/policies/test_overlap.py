"""Which positions new waiting executions take."""

import pytest

from app.models.policy import OverlapPolicy
from app.policies.overlap import Positions, count_positions


def test_positions_are_taken_from_the_lowest() -> None:
    positions = Positions({0, 2})
    assert [positions.take_lowest(6) for _ in range(5)] == [1, 3, 4, 5, None]


def test_waiting_executions_at_higher_positions_count() -> None:
    assert Positions({5}).take_lowest(1) is None
    assert Positions({5}).take_spread(1, 0) is None
    assert Positions({5}).take_lowest(2) == 0


def test_spread_positions_are_free_and_all_of_them_are_taken() -> None:
    positions = Positions({1, 3})
    assert sorted(positions.take_spread(6, 7) or 0 for _ in range(4)) == [0, 2, 4, 5]
    assert positions.take_spread(6, 7) is None


def test_spread_positions_differ_between_processes() -> None:
    assert {Positions({0}).take_spread(6, number) for number in range(5)} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("policy", "own", "with_room"),
    [
        (OverlapPolicy.SKIP, 0, 1_000),
        (OverlapPolicy.BUFFER_ONE, 1, 1_000),
        (OverlapPolicy.BUFFER_ALL, 100, 1_000),
        (OverlapPolicy.CANCEL_OTHER, 0, 0),
        (OverlapPolicy.TERMINATE_OTHER, 0, 0),
        (OverlapPolicy.ALLOW_ALL, 0, 0),
    ],
)
def test_positions_of_each_policy(policy: OverlapPolicy, own: int, with_room: int) -> None:
    assert count_positions(policy, None) == own
    assert count_positions(policy, 1_000) == with_room
