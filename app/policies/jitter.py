"""Jitter: a delay that spreads the starts of executions. It is the same in every process."""

import hashlib
from datetime import datetime, timedelta

_STEPS = 1 << 64


def jitter(job_id: str, slot: datetime, *, limit: timedelta) -> timedelta:
    """Return a delay in [0, limit), in whole milliseconds, evenly distributed over jobs and slots.

    It is a hash of the job and the slot, so the same arguments always have the same delay.
    """
    digest = hashlib.sha256(f"{job_id} {slot.timestamp():.3f}".encode()).digest()
    milliseconds = limit // timedelta(milliseconds=1)
    return timedelta(milliseconds=int.from_bytes(digest[:8], "big") * milliseconds // _STEPS)
