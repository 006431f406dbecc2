"""Jitter: a delay that spreads starts, the same whenever and wherever it is computed."""

import hashlib
from datetime import datetime, timedelta

_STEPS = 1 << 64


def jitter(job_id: str, slot: datetime, *, most: timedelta) -> timedelta:
    """A delay in [0, most), evenly spread over jobs and slots, in whole milliseconds."""
    digest = hashlib.sha256(f"{job_id} {slot.timestamp():.3f}".encode()).digest()
    milliseconds = most // timedelta(milliseconds=1)
    return timedelta(milliseconds=int.from_bytes(digest[:8], "big") * milliseconds // _STEPS)
