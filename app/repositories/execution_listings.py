"""The queries of execution listings: which executions, by which index. No I/O."""

from dataclasses import dataclass
from datetime import datetime

from pymongo import DESCENDING

from app.models.execution import Execution, ExecutionKind, ExecutionStatus
from app.repositories.documents import known
from app.repositories.mongo import Document
from app.repositories.pages import Range

LISTING_ORDER = (("scheduled_for", DESCENDING), ("_id", DESCENDING))

HistoryPosition = tuple[datetime, str]
"""A position in a history: the slot and the id of an execution."""

LARGE_FIELDS = ("parameters", "attempts.response.headers", "attempts.response.body")
"""The fields of an execution that a partial listing leaves out."""


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions a listing shows. None means any; `until` is exclusive."""

    owner_id: str | None = None
    job_id: str | None = None
    statuses: frozenset[ExecutionStatus] | None = None
    kind: ExecutionKind | None = None
    since: datetime | None = None
    until: datetime | None = None


def listing_of(wanted: ExecutionFilter, before: HistoryPosition | None) -> Range:
    """The range of a listing, just after `before` (slot, id)."""
    return Range(_query(wanted, before), dict(LISTING_ORDER), _index(wanted))


def build_rest_query(position: HistoryPosition) -> Document:
    """The executions after the position in the listing order."""
    slot, execution_id = position
    return {
        "scheduled_for": {"$lte": slot},
        "$or": [{"scheduled_for": {"$lt": slot}}, {"_id": {"$lt": execution_id}}],
    }


def _query(wanted: ExecutionFilter, before: HistoryPosition | None) -> Document:
    query: Document = known(Execution)
    if wanted.owner_id is not None:
        query["owner_id"] = wanted.owner_id
    if wanted.job_id is not None:
        query["job_id"] = wanted.job_id
    if wanted.kind is not None:
        query["kind"] = wanted.kind
    if wanted.statuses is not None:
        query["status"] = {"$in": sorted(wanted.statuses)}
    slots: Document = {}
    if wanted.since is not None:
        slots["$gte"] = wanted.since
    if wanted.until is not None:
        slots["$lt"] = wanted.until
    if before is not None:
        query |= build_rest_query(before)
        slots |= query["scheduled_for"]
    if slots:
        query["scheduled_for"] = slots
    return query


def _index(wanted: ExecutionFilter) -> str:
    """The index with the listing's order."""
    if wanted.job_id is not None:
        return "history_by_job"
    if wanted.owner_id is None:
        return "history"
    return "history_by_owner" if wanted.statuses is None else "history_by_owner_and_status"
