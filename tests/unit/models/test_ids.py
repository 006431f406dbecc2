"""The form of ids."""

from datetime import UTC, datetime

from app.models.ids import is_id, uuid7


def test_ids_are_version_seven_uuids_ordered_by_time() -> None:
    at = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp() * 1000)
    earlier, later = uuid7(at, b"\xff" * 10), uuid7(at + 1, b"\x00" * 10)
    assert earlier < later
    assert is_id(earlier)
    assert earlier[12] == "7"
    assert earlier[16] in "89ab"
    assert not is_id(earlier.upper())
    assert not is_id(earlier + "\n")
