"""The `executions` collection as the janitor sees it: what is old, and may go."""

from collections.abc import Collection as Group
from collections.abc import Sequence
from datetime import datetime

from pymongo import ASCENDING

from app.models.execution import ExecutionStatus
from app.models.past import Past
from app.repositories.executions import LISTING_ORDER
from app.repositories.mongo import Database, Document, database_call

_BY_JOB = "history_by_job"
_MOST_LOOKED_AT = 1_000
_FIELDS = dict.fromkeys(("job_id", "status", "scheduled_for", "finished_at"), True)


class HistoryRepository:
    """Reads and deletes old executions. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._executions = database.collection("executions")
        self._jobs = database.collection("jobs")

    async def now(self) -> datetime:
        """The database's present instant."""
        return await self._database.now()

    @database_call
    async def list_finished(
        self, *, before: datetime, after: Past | None, limit: int
    ) -> list[Past]:
        """What finished before an instant, the oldest first, from just behind `after` on."""
        query: Document = {"finished_at": {"$type": "date", "$lt": before}}
        if after is not None:
            query["finished_at"]["$gte"] = after.finished_at
            query["$or"] = [
                {"finished_at": {"$gt": after.finished_at}},
                {"_id": {"$gt": after.id}},
            ]
        cursor = self._executions.find(query, _FIELDS)
        cursor = cursor.sort([("finished_at", ASCENDING), ("_id", ASCENDING)]).limit(limit)
        return [_past(document) for document in await cursor.to_list(None)]

    @database_call
    async def list_job_ids(self, *, after: str | None, limit: int) -> list[str]:
        """The ids of jobs behind `after`, in order."""
        query: Document = {} if after is None else {"_id": {"$gt": after}}
        cursor = self._jobs.find(query, {"_id": True}).sort("_id", ASCENDING).limit(limit)
        return [document["_id"] for document in await cursor.to_list(None)]

    @database_call
    async def list_surplus(
        self, job_id: str, *, keep: int, before: datetime, limit: int
    ) -> list[Past]:
        """What lies behind the newest `keep` slots of a job and finished before an instant, the
        oldest slot first."""
        newest = self._executions.find({"job_id": job_id}, {"_id": False, "scheduled_for": True})
        newest = newest.sort(LISTING_ORDER).hint(_BY_JOB).skip(keep - 1).limit(1)
        boundary = await newest.to_list(None)
        if not boundary:
            return []
        query: Document = {
            "job_id": job_id,
            # What finished before an instant had its slot before it, too.
            "scheduled_for": {"$lt": min(boundary[0]["scheduled_for"], before)},
            "finished_at": {"$type": "date", "$lt": before},
        }
        oldest = [(name, ASCENDING) for name, _ in LISTING_ORDER]
        cursor = self._executions.find(query, _FIELDS).sort(oldest).hint(_BY_JOB).limit(limit)
        return [_past(document) for document in await cursor.to_list(None)]

    @database_call
    async def has_newer(self, past: Past, statuses: Group[ExecutionStatus]) -> bool:
        """Whether the job has an execution of a later slot that ended in one of `statuses`.

        Only the newest of them are looked at: where none of these did, the answer is no.
        """
        later = {"job_id": past.job_id, "scheduled_for": {"$gt": past.scheduled_for}}
        cursor = self._executions.find(later, {"_id": False, "status": True})
        newest = cursor.sort(LISTING_ORDER).hint(_BY_JOB).limit(_MOST_LOOKED_AT)
        async for document in newest:
            if document["status"] in statuses:
                return True
        return False

    @database_call
    async def delete(self, execution_ids: Sequence[str]) -> int:
        """Delete finished executions; returns how many there were."""
        query = {"_id": {"$in": list(execution_ids)}, "finished_at": {"$type": "date"}}
        return (await self._executions.delete_many(query)).deleted_count


def _past(document: Document) -> Past:
    return Past(
        id=document["_id"],
        job_id=document["job_id"],
        status=ExecutionStatus(document["status"]),
        scheduled_for=document["scheduled_for"],
        finished_at=document["finished_at"],
    )
