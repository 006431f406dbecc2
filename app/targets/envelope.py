"""The envelope: the standard content that a receiver gets for an attempt."""

from datetime import UTC, datetime
from typing import Any

from app.targets.target import Delivery


def rfc3339(instant: datetime) -> str:
    """Format an instant as `2026-11-23T08:00:00Z`, with milliseconds if there are any."""
    precision = "milliseconds" if instant.microsecond else "seconds"
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


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
