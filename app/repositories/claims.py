"""Claims: which executions may be claimed, and the update that claims them. No I/O."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.clock import count_milliseconds
from app.models.execution import Execution, ExecutionStatus, require_move
from app.repositories.attempts import ABANDONED, end_open_attempts
from app.repositories.documents import FIRST_SCHEMA, known
from app.repositories.lease_fence import RAISE_TOKEN
from app.repositories.mongo import Document

QUEUE: Document = known(Execution) | {
    "status": require_move(ExecutionStatus.QUEUED, ExecutionStatus.RUNNING),
    "waiting": False,
}
"""Executions that may be claimed when they are due."""

UNCLAIMABLE: Document = {
    "status": ExecutionStatus.QUEUED,
    "waiting": {"$nin": [True, False]},
    # Without those of the first schema, which have another name for the field.
    "schema": known(Execution)["schema"] | {"$nin": [None, FIRST_SCHEMA]},
}
"""Queued executions that are neither waiting nor claimable: ranges of the index `claimable`."""


@dataclass(frozen=True, slots=True)
class NextClaimable:
    """The database's now, and when the first claimable execution may start."""

    now: datetime
    run_at: datetime | None


def build_claim(lease_owner: str, term: timedelta, now: Any) -> list[Document]:
    """The update that gives a lease; `now` is an expression."""
    return [
        {
            "$set": {
                "status": ExecutionStatus.RUNNING,
                "lease_owner": {"$literal": lease_owner},
                "lease_until": {"$add": [now, count_milliseconds(term)]},
                "lease_token": RAISE_TOKEN,
                # Earlier releases could queue an execution whose attempt had not ended.
                "attempts": end_open_attempts({"$literal": ABANDONED}, now),
            }
        }
    ]
