"""The envelope: the standard content that a receiver gets for an attempt."""

from typing import Any

from app.models.record import rfc3339
from app.targets.target import Delivery


def build_envelope(delivery: Delivery) -> dict[str, Any]:
    """Return the standard content as a JSON object."""
    return {
        "job_id": delivery.job_id,
        "job_name": delivery.job_name,
        "execution_id": delivery.execution_id,
        "kind": delivery.kind.value,
        "scheduled_for": rfc3339(delivery.scheduled_for),
        "attempt": delivery.attempt,
        "parameters": delivery.parameters,
    }
