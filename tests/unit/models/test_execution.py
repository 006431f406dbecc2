"""The table of legal moves, and the form of ids."""

from datetime import UTC, datetime

from app.models.execution import FINAL_STATUSES, MOVES, UNFINISHED_STATUSES, ExecutionStatus
from app.models.ids import is_id, uuid7


def test_every_status_has_its_moves() -> None:
    assert set(MOVES) == set(ExecutionStatus)
    assert set(ExecutionStatus) == UNFINISHED_STATUSES | FINAL_STATUSES


def test_no_move_starts_at_a_final_status() -> None:
    assert all(not MOVES[status] for status in FINAL_STATUSES)


def test_no_move_ends_at_skipped_or_missed() -> None:
    reached = frozenset[ExecutionStatus]().union(*MOVES.values())
    assert set(ExecutionStatus) - reached == {ExecutionStatus.SKIPPED, ExecutionStatus.MISSED}


def test_ids_are_version_seven_uuids_ordered_by_time() -> None:
    at = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp() * 1000)
    earlier, later = uuid7(at, b"\xff" * 10), uuid7(at + 1, b"\x00" * 10)
    assert earlier < later
    assert is_id(earlier)
    assert earlier[12] == "7"
    assert earlier[16] in "89ab"
    assert not is_id(earlier.upper())
    assert not is_id(earlier + "\n")
