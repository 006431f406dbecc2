"""The table of legal moves, and executions that end before they are stored."""

from datetime import UTC, datetime

import pytest

from app.models.execution import (
    FINAL_STATUSES,
    MOVES,
    UNFINISHED_STATUSES,
    Execution,
    ExecutionKind,
    ExecutionStatus,
    Reason,
    require_move,
)
from app.models.policy import OverlapPolicy


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


def test_no_execution_that_ends_before_it_is_stored_waits() -> None:
    """A final record that waits would be counted among the waiting executions of its job."""
    now = datetime(2026, 11, 23, 8, tzinfo=UTC)
    waiting = Execution.queue(
        "an id",
        job_id="a job",
        owner_id="owner",
        kind=ExecutionKind.SCHEDULED,
        scheduled_for=now,
        run_at=now,
        policy=OverlapPolicy.BUFFER_ALL,
        now=now,
    ).wait_at(0)
    for ended in (
        waiting.skip(Reason.OVERLAP, now),
        waiting.cancel(Reason.REPLACED_BY_NEWER, now),
        waiting.miss(until=now, count=1, now=now),
    ):
        assert (ended.waiting, ended.place, ended.live_for) == (False, None, None)
