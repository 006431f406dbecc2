"""Claims: which executions may be claimed, and the update that claims them. No I/O."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pymongo import ASCENDING

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
"""Queued executions that are neither waiting nor claimable: ranges of `claimable_by_owner`."""


def build_listing(slots: Mapping[str, int], claimable: Document) -> list[Document]:
    """The pipeline that lists ids of claimable executions: of each owner at most as many as it has
    slots, the earliest `run_at` first.

    It examines one key for each id, because each number of slots has a `$limit` of its own.
    """
    owners_by_count: dict[int, list[str]] = {}
    for owner_id, count in slots.items():
        owners_by_count.setdefault(count, []).append(owner_id)
    first, *others = (
        _build_lookup(owners, count, claimable) for count, owners in owners_by_count.items()
    )
    unions = [{"$unionWith": {"pipeline": pipeline}} for pipeline in others]
    return [*first, *unions, {"$project": {"ids": "$found._id"}}]


def _build_lookup(owner_ids: list[str], count: int, claimable: Document) -> list[Document]:
    return [
        {"$documents": {"$map": {"input": {"$literal": owner_ids}, "in": {"_id": "$$this"}}}},
        {
            "$lookup": {
                "from": "executions",
                "localField": "_id",
                "foreignField": "owner_id",
                "pipeline": [
                    {"$match": claimable},
                    {"$sort": {"run_at": ASCENDING}},
                    {"$limit": count},
                    {"$project": {"_id": True}},
                ],
                "as": "found",
            }
        },
    ]


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
