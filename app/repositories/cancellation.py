"""Updates that cancel executions. `now` is an expression for the present instant."""

from typing import Any

from app.models.execution import ExecutionStatus, Reason, require_move
from app.repositories.mongo import Document

QUEUED: Document = {"status": require_move(ExecutionStatus.QUEUED, ExecutionStatus.CANCELLED)}
"""Executions that `end` may end at once."""

RUNNING: Document = {
    "status": require_move(ExecutionStatus.RUNNING, ExecutionStatus.CANCELLED),
    "cancel_requested_at": None,
}
"""Executions that `request` may ask to stop: nobody has asked before."""


def end(reason: Reason, now: Any) -> list[Document]:
    """Cancel: the execution is final, and locks nothing any more."""
    ended = {
        "status": ExecutionStatus.CANCELLED,
        "reason": {"$literal": reason},
        "finished_at": now,
    }
    return [{"$set": ended}, {"$unset": ["live_for", "place", "lease_owner", "lease_until"]}]


def request(reason: Reason, now: Any) -> list[Document]:
    """Ask the worker to stop. It, or the reaper, records the cancel."""
    return [{"$set": {"cancel_requested_at": now, "reason": {"$literal": reason}}}]
