"""The protocol that every target keeps."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from app.models.execution import ExecutionKind
from app.models.outcome import Outcome

Spec = TypeVar("Spec", contravariant=True)
"""The stored target that a class delivers to, e.g. `HttpTargetSpec`."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, as it is handed to a target."""

    execution_id: str
    job_id: str
    job_name: str
    kind: ExecutionKind
    scheduled_for: datetime
    attempt: int
    parameters: dict[str, Any]
    timeout: timedelta
    """The total time the attempt may take. The target keeps it itself."""


class Target(Protocol[Spec]):
    """Hands attempts over. One instance serves every job of its type, concurrently."""

    async def deliver(self, spec: Spec, delivery: Delivery) -> Outcome:
        """Deliver one attempt and say how it ended.

        An expected end (refused, unreachable, too slow) is an `Outcome`, never an exception.
        Cancelling the task cuts the delivery.
        """
        ...
