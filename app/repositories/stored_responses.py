"""The `executions` collection as a store of response headers and bodies: which of them take up
space, how much, and their removal. The executions themselves stay."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import structlog
from pymongo import ASCENDING

from app.models.execution import Execution, ExecutionStatus, Truncation
from app.repositories.batches import describe_rejection, is_rejection, write_in_parts
from app.repositories.documents import known
from app.repositories.kept_responses import drop_responses
from app.repositories.mongo import Database, Document, aggregate, database_call

_log = structlog.get_logger(__name__)

_STORED: Document = {"response_bytes": {"$gt": 0}}
"""The condition of both indexes."""
_FIRST_INSTANT = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_LISTED = 5_000
_PAGE_KEYS = 2_000
DROPPED_AT_ONCE = 500
"""The most executions of one write."""


class StoredResponseRepository:
    """Reads and removes stored responses. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._executions = database.collection("executions")

    @database_call
    async def list_job_ids(self, *, after: str | None) -> list[str]:
        """Ids of jobs that have stored responses, in order, starting just after `after`; an empty
        list at the end. Also of deleted jobs. Examines at most 2,000 index keys."""
        jobs: Document = {"$type": "string"} if after is None else {"$gt": after}
        pipeline = build_job_page(jobs)
        found = await aggregate(self._executions, pipeline, hint="responses_by_job")
        return sorted(document["_id"] for document in found)

    @database_call
    async def list_surplus(
        self, job_ids: Sequence[str], *, keep: int, failures: Collection[ExecutionStatus]
    ) -> list[str]:
        """Finished executions with stored responses that are neither one of the `keep` of their
        job that finished last, nor one of the `keep` that failed last.

        Examines at most `DROPPED_AT_ONCE + 2 * keep` index keys for each job, and returns at most
        5,000 ids. A job may have more, if the result has `DROPPED_AT_ONCE` ids or more.
        """
        pipeline = build_surplus_query(job_ids, keep=keep, failures=failures)
        return [document["_id"] for document in await self._database.compute(pipeline)]

    async def drop(self, execution_ids: Sequence[str]) -> int:
        """Remove the headers and bodies of finished executions; returns of how many."""
        dropped = 0
        for start in range(0, len(execution_ids), DROPPED_AT_ONCE):
            part = execution_ids[start : start + DROPPED_AT_ONCE]
            dropped += sum(await write_in_parts(part, self._drop, self._forget))
        return dropped

    @database_call
    async def _drop(self, execution_ids: Sequence[str]) -> list[int]:
        stages: list[Document] = [
            {"$set": {"attempts": drop_responses(Truncation.OLDER_EXECUTION)}},
            {"$unset": ["response_bytes"]},
        ]
        result = await self._executions.update_many(_finished(execution_ids), stages)
        return [result.modified_count]

    @database_call
    async def _forget(self, execution_id: str, error: Exception) -> list[int]:
        """Take an execution for which the database rejects the removal out of the indexes."""
        if not is_rejection(error):
            raise error
        _log.error(
            "responses_not_dropped", execution_id=execution_id, error=describe_rejection(error)
        )
        unset = {"$unset": {"response_bytes": True}}
        result = await self._executions.update_one(_finished([execution_id]), unset)
        return [result.modified_count]

    @database_call
    async def sum_bytes(self, owner_ids: Sequence[str]) -> dict[str, int]:
        """By owner: the size of the stored responses. Reads only index keys."""
        pipeline = build_sum(owner_ids)
        found = await aggregate(self._executions, pipeline, hint="responses_by_owner")
        # A sum that 64 bits cannot hold is a double.
        return dict.fromkeys(owner_ids, 0) | {one["_id"]: int(one["bytes"]) for one in found}


def _finished(execution_ids: Sequence[str]) -> Document:
    finished = {"_id": {"$in": list(execution_ids)}, "finished_at": {"$type": "date"}}
    return known(Execution) | _STORED | finished


def build_job_page(job_ids: Document) -> list[Document]:
    return [
        {"$match": _STORED | {"job_id": job_ids}},
        {"$sort": {"job_id": ASCENDING}},
        {"$limit": _PAGE_KEYS},
        {"$group": {"_id": "$job_id"}},
    ]


def build_sum(owner_ids: Sequence[str]) -> list[Document]:
    # A malformed size can be decimal, which MongoDB adds up as such, or infinite.
    size = {"$convert": {"input": "$response_bytes", "to": "long", "onError": 0}}
    return [
        {"$match": _STORED | {"owner_id": {"$in": list(owner_ids)}}},
        {"$group": {"_id": "$owner_id", "bytes": {"$sum": size}}},
    ]


def build_surplus_query(
    job_ids: Sequence[str], *, keep: int, failures: Collection[ExecutionStatus]
) -> list[Document]:
    return [
        {"$documents": [{"job_id": {"$literal": job_id}} for job_id in job_ids]},
        {
            "$lookup": {
                "from": "executions",
                # With `let` and `$expr` the server reads the documents, too.
                "localField": "job_id",
                "foreignField": "job_id",
                "pipeline": _build_surplus_stages(keep, sorted(failures)),
                "as": "surplus",
            }
        },
        {"$unwind": "$surplus"},
        {"$limit": _MAX_LISTED},
        {"$project": {"_id": "$surplus._id"}},
    ]


def _build_surplus_stages(keep: int, failures: Sequence[str]) -> list[Document]:
    """The stages that find the surplus executions among those of one job."""
    newest_first = {"finished_at": -1, "_id": -1}
    is_failure = {"$cond": [{"$in": ["$status", failures]}, 1, 0]}
    so_far = {"documents": ["unbounded", "current"]}
    return [
        # With `$type` instead of an instant the server reads the documents.
        {"$match": _STORED | {"finished_at": {"$gt": _FIRST_INSTANT}}},
        {"$sort": newest_first},
        {"$limit": DROPPED_AT_ONCE + 2 * keep},
        {"$project": {"finished_at": True, "status": True}},
        {
            "$setWindowFields": {
                "sortBy": newest_first,
                "output": {
                    "number": {"$sum": 1, "window": so_far},
                    "failures": {"$sum": is_failure, "window": so_far},
                },
            }
        },
        {
            "$match": {
                "number": {"$gt": keep},
                "$or": [{"status": {"$nin": failures}}, {"failures": {"$gt": keep}}],
            }
        },
        {"$project": {"_id": True}},
    ]
