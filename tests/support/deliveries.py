"""Deliveries that tests pass to targets."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from app.models.execution import ExecutionKind
from app.targets.target import Delivery
from tests.support.clock import START

DELIVERY = Delivery(
    execution_id="0192f3a4b5c67d8e9f00112233445566",
    job_id="0192f3a4b5c67d8e9f00aabbccddeeff",
    owner_id="0192f3a4b5c67d8e9f00000000000001",
    job_name="weekly-report",
    kind=ExecutionKind.SCHEDULED,
    scheduled_for=START,
    attempt=2,
    parameters={"action": "send_email", "to": ["Jörg", 7, None]},
    timeout=timedelta(seconds=5),
)


def make_delivery(**changes: Any) -> Delivery:
    """Return `DELIVERY` with some fields changed."""
    return replace(DELIVERY, **changes)
