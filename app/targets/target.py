"""The protocol that every target implements."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from app.models.execution import ExecutionKind
from app.models.outcome import Outcome

Spec = TypeVar("Spec", contravariant=True)
"""The stored target that a class delivers to, e.g. `HttpTargetSpec`."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, as a target receives it."""

    execution_id: str
    job_id: str
    owner_id: str
    """Limits such as the number of name lookups apply to each owner. It is not sent."""
    job_name: str
    kind: ExecutionKind
    scheduled_for: datetime
    attempt: int
    parameters: dict[str, Any]
    timeout: timedelta
    """The time limit of the whole attempt. The target enforces it."""
    hops: int = 0
    """Those of the execution."""


class Target(Protocol[Spec]):
    """Delivers attempts. One instance serves all jobs of its type concurrently."""

    async def deliver(self, spec: Spec, delivery: Delivery) -> Outcome:
        """Deliver one attempt and return how it ended.

        An expected end (rejected, unreachable, too slow) is an `Outcome`, never an exception.
        Cancelling the task interrupts the delivery.
        """
        ...
