"""Updates that end executions without a result: cancelled, or failed because they are unreadable.

`now` is an expression for the present instant.
"""

from typing import Any

from app.models.execution import FINAL_STATUSES, Execution, ExecutionStatus, Reason, require_move
from app.repositories.attempts import ABANDONED, end_open_attempts
from app.repositories.lease_fence import RAISE_TOKEN
from app.repositories.mongo import Document

CAN_END: Document = {"status": require_move(ExecutionStatus.QUEUED, ExecutionStatus.CANCELLED)}
"""The condition on executions that `end` may end immediately."""

CAN_BE_ASKED: Document = {
    "status": require_move(ExecutionStatus.RUNNING, ExecutionStatus.CANCELLED),
    "cancel_requested_at": None,
}
"""The condition on executions that `request` may ask to stop: no cancel was requested before."""


CAN_FAIL_UNREADABLE: Document = {"status": {"$nin": sorted(FINAL_STATUSES)}}
"""The condition on executions that `fail_unreadable` may end. The status may be unreadable too."""


_SMALL_FIELDS = {"schema", *Execution.model_fields} - {
    "id",
    "attempts",
    "parameters",
    "response_bytes",
}


def end(reason: Reason, now: Any) -> list[Document]:
    """Cancel: the execution becomes final. It gives up `live_for`, so that another execution can be
    live, and its position (`place`) among the waiting executions."""
    return _build_end(ExecutionStatus.CANCELLED, reason, now)


def fail_unreadable(now: Any) -> list[Document]:
    """End an execution that cannot be read. No field needs a valid value."""
    # The token rises, so that later writes of a worker that runs it match nothing.
    end = _build_end(ExecutionStatus.FAILED, Reason.UNREADABLE, now)
    return [{"$set": {"lease_token": RAISE_TOKEN}}, *end]


def fail_reduced(now: Any) -> list[Document]:
    """As `fail_unreadable`, for an execution that has no room for it. It loses its attempts, its
    parameters and all fields that no execution has."""
    kept = {name: f"${name}" for name in _SMALL_FIELDS}
    return [{"$replaceWith": kept | {"_id": "$_id", "attempts": []}}, *fail_unreadable(now)]


def request(reason: Reason, now: Any) -> list[Document]:
    """Ask the worker to stop the attempt. The worker or the reaper records the cancel."""
    return [{"$set": {"cancel_requested_at": now, "reason": {"$literal": reason}}}]


def _build_end(status: ExecutionStatus, reason: Reason, now: Any) -> list[Document]:
    ended = {
        "status": status,
        "reason": {"$literal": reason},
        "finished_at": now,
        "waiting": False,
        "attempts": end_open_attempts({"$literal": ABANDONED}, now),
    }
    return [{"$set": ended}, {"$unset": ["live_for", "place", "lease_owner", "lease_until"]}]
