"""What retention looks at of a finished execution."""

from dataclasses import dataclass
from datetime import datetime

from app.models.execution import ExecutionStatus


@dataclass(frozen=True, slots=True)
class Past:
    """A finished execution."""

    id: str
    job_id: str
    status: ExecutionStatus
    scheduled_for: datetime
    finished_at: datetime
