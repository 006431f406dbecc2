"""Updates that cancel executions. `now` is an expression for the present instant."""

from typing import Any

from app.models.execution import ExecutionStatus, Reason, require_move
from app.repositories.attempts import ABANDONED, end_open_attempts
from app.repositories.mongo import Document

CAN_END: Document = {"status": require_move(ExecutionStatus.QUEUED, ExecutionStatus.CANCELLED)}
"""The condition on executions that `end` may end immediately."""

CAN_BE_ASKED: Document = {
    "status": require_move(ExecutionStatus.RUNNING, ExecutionStatus.CANCELLED),
    "cancel_requested_at": None,
}
"""The condition on executions that `request` may ask to stop: no cancel was requested before."""


def end(reason: Reason, now: Any) -> list[Document]:
    """Cancel: the execution becomes final. It gives up `live_for`, so that another execution can be
    live, and its position (`place`) among the waiting executions."""
    ended = {
        "status": ExecutionStatus.CANCELLED,
        "reason": {"$literal": reason},
        "finished_at": now,
        "attempts": end_open_attempts({"$literal": ABANDONED}, now),
    }
    return [{"$set": ended}, {"$unset": ["live_for", "place", "lease_owner", "lease_until"]}]


def request(reason: Reason, now: Any) -> list[Document]:
    """Ask the worker to stop the attempt. The worker or the reaper records the cancel."""
    return [{"$set": {"cancel_requested_at": now, "reason": {"$literal": reason}}}]
