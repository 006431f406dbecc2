"""Since when executions have waited for slots, from what each round of the worker has found."""

from datetime import timedelta

from structlog.testing import capture_logs

from app.engine.saturation import Saturation
from tests.support.clock import ManualClock

SECOND = timedelta(seconds=1)


def make_saturation() -> tuple[Saturation, ManualClock]:
    clock = ManualClock()
    return Saturation(clock=clock, concurrency=5), clock


def test_the_wait_ends_only_when_all_that_was_due_at_its_beginning_has_left_the_queue() -> None:
    saturation, clock = make_saturation()
    began = clock.monotonic()
    saturation.note_taken(["a"])
    clock.advance(10 * SECOND)
    saturation.note_read(due_since=began - 60, owners=[])  # the first owner in turn gets the slot
    saturation.note_taken(["a"])
    assert "taken for 10 s" in (saturation.describe() or "")

    saturation.note_read(due_since=began + 6, owners=[])
    assert saturation.describe() is None
    clock.advance(6 * SECOND)
    saturation.note_taken(["a"])
    assert "taken for 10 s" in (saturation.describe() or "")

    saturation.note_read(due_since=None, owners=[])
    saturation.note_taken(["a"])
    assert saturation.describe() is None


def test_what_was_due_before_the_worker_found_no_slot_has_not_waited_for_one() -> None:
    saturation, clock = make_saturation()
    saturation.note_read(due_since=clock.monotonic() - 3_600, owners=[])
    saturation.note_read(due_since=clock.monotonic() - 3_600, owners=["a"])
    assert saturation.describe() is None


def test_each_wait_is_logged_once_with_the_owners() -> None:
    saturation, clock = make_saturation()
    with capture_logs() as logs:
        for wait in range(2):
            saturation.note_taken(["a", "b"])
            clock.advance(10 * SECOND)
            saturation.note_read(due_since=clock.monotonic() - 10, owners=[])
            for _ in range(3):
                saturation.note_read(due_since=clock.monotonic() - 10, owners=["c"])
            assert [one["owner_ids"] for one in logs] == [["c"]] * (wait + 1)
            saturation.note_read(due_since=None, owners=[])
    assert [one["all_taken"] for one in logs] == [False, False]
