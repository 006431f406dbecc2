"""Finished executions, with the fields that retention needs."""

from dataclasses import dataclass
from datetime import datetime

from app.models.execution import ExecutionStatus


@dataclass(frozen=True, slots=True)
class FinishedExecution:
    """The fields of a finished execution that decide whether it may be deleted."""

    id: str
    job_id: str
    status: ExecutionStatus
    scheduled_for: datetime
    finished_at: datetime
