"""The delays of jitter."""

from datetime import timedelta

from app.policies.jitter import jitter
from tests.support.clock import START


def test_jitter_is_reproducible_and_evenly_distributed() -> None:
    most = timedelta(seconds=60)
    delays = [jitter("job", START + timedelta(seconds=n), limit=most) for n in range(1_000)]
    assert delays == [jitter("job", START + timedelta(seconds=n), limit=most) for n in range(1_000)]
    assert all(timedelta(0) <= delay < most for delay in delays)
    assert 25 < sum(delay.total_seconds() for delay in delays) / 1_000 < 35


def test_each_job_and_each_slot_has_a_delay_of_its_own() -> None:
    most = timedelta(seconds=60)
    slots = [START + timedelta(milliseconds=n) for n in range(10)]
    delays = {jitter(job, slot, limit=most) for job in ("a", "b") for slot in slots}
    assert len(delays) == 20
