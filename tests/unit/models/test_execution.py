"""The table of legal moves."""

import pytest

from app.models.execution import (
    FINAL_STATUSES,
    MOVES,
    UNFINISHED_STATUSES,
    ExecutionStatus,
    require_move,
)


def test_every_status_has_its_moves() -> None:
    assert set(MOVES) == set(ExecutionStatus)
    assert set(ExecutionStatus) == UNFINISHED_STATUSES | FINAL_STATUSES


def test_no_move_starts_at_a_final_status() -> None:
    assert all(not MOVES[status] for status in FINAL_STATUSES)


def test_no_move_ends_at_skipped_or_missed() -> None:
    reached = frozenset[ExecutionStatus]().union(*MOVES.values())
    assert set(ExecutionStatus) - reached == {ExecutionStatus.SKIPPED, ExecutionStatus.MISSED}


@pytest.mark.parametrize("before", ExecutionStatus)
@pytest.mark.parametrize("after", ExecutionStatus)
def test_only_a_legal_move_has_a_require_move(
    before: ExecutionStatus, after: ExecutionStatus
) -> None:
    if after in MOVES[before]:
        assert require_move(before, after) is before
    else:
        with pytest.raises(ValueError, match=f"from {before} to {after}"):
            require_move(before, after)
