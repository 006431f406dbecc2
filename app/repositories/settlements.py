"""Settlements: how the end of a lease changes an execution. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.clock import count_milliseconds
from app.models.execution import FINAL_STATUSES, ExecutionStatus, Reason, require_move
from app.models.outcome import Outcome
from app.repositories.free_form import encode_response
from app.repositories.lease_fence import Lease
from app.repositories.mongo import Document, pick


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a lease: the attempt's outcome, and the execution's next status.

    `attempt` is None if none was started. `delay` is the time until a queued execution may start
    again. If a cancel was requested, the status becomes `cancelled` instead of `status`.
    """

    lease: Lease
    status: ExecutionStatus
    attempt: int | None = None
    outcome: Outcome | None = None
    reason: Reason | None = None
    delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        require_move(ExecutionStatus.RUNNING, self.status)  # raises ValueError for other statuses


def settlement_stages(settlements: Sequence[Settlement], now: Any) -> list[Document]:
    """The update that ends each of these leases by its settlement; `now` is an expression.

    A final execution gives up `live_for`.
    """
    ids = [settlement.lease.execution_id for settlement in settlements]
    cancelled = {"$gt": ["$cancel_requested_at", None]}
    final = {"$in": ["$status", sorted(FINAL_STATUSES)]}
    run_again = {"$add": [now, pick(ids, [count_milliseconds(s.delay) for s in settlements])]}
    attempt_ended = {"$eq": ["$$attempt.number", pick(ids, [s.attempt for s in settlements])]}
    ended = {"finished_at": now}
    attempt = {"$mergeObjects": ["$$attempt", pick(ids, [_result(s) for s in settlements]), ended]}
    return [
        {
            "$set": {
                "status": {
                    "$cond": [
                        cancelled,
                        ExecutionStatus.CANCELLED,
                        pick(ids, [s.status for s in settlements]),
                    ]
                },
                "reason": {"$ifNull": [pick(ids, [s.reason for s in settlements]), "$reason"]},
                "attempts": {
                    "$map": {
                        "input": "$attempts",
                        "as": "attempt",
                        "in": {"$cond": [attempt_ended, attempt, "$$attempt"]},
                    }
                },
            }
        },
        {
            "$set": {
                "finished_at": {"$cond": [final, now, "$$REMOVE"]},
                "live_for": {"$cond": [final, "$$REMOVE", "$live_for"]},
                "run_at": {"$cond": [final, "$run_at", run_again]},
            }
        },
        {"$unset": ["lease_owner", "lease_until"]},
    ]


def _result(settlement: Settlement) -> Document:
    """The fields that the attempt gets at its end."""
    outcome = settlement.outcome
    if outcome is None:
        return {}
    response = None if outcome.response is None else outcome.response.model_dump()
    return {
        "outcome": outcome.outcome,
        "error": outcome.error,
        "response": encode_response(response),
    }
