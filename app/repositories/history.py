"""The `executions` collection as the janitor sees it: finished executions to delete."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

from pymongo import ASCENDING

from app.models.execution import Execution, ExecutionStatus
from app.models.finished_execution import FinishedExecution
from app.repositories.documents import known
from app.repositories.executions import LISTING_ORDER
from app.repositories.mongo import Database, Document, database_call

_BY_JOB = "history_by_job"
_MAX_EXAMINED = 1_000
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
        self, *, before: datetime, after: FinishedExecution | None, limit: int
    ) -> list[FinishedExecution]:
        """Executions that finished before an instant, the oldest first, starting just after
        `after`."""
        query = known(Execution) | {"finished_at": {"$type": "date", "$lt": before}}
        if after is not None:
            query["finished_at"]["$gte"] = after.finished_at
            query["$or"] = [
                {"finished_at": {"$gt": after.finished_at}},
                {"_id": {"$gt": after.id}},
            ]
        found = self._executions.find(query, _FIELDS)
        found = found.sort([("finished_at", ASCENDING), ("_id", ASCENDING)]).limit(limit)
        return [_finished(document) for document in await found.to_list(None)]

    @database_call
    async def list_job_ids(self, *, after: str | None, limit: int) -> list[str]:
        """The ids of the jobs after `after`, in order."""
        query: Document = {} if after is None else {"_id": {"$gt": after}}
        found = self._jobs.find(query, {"_id": True}).sort("_id", ASCENDING).limit(limit)
        return [document["_id"] for document in await found.to_list(None)]

    @database_call
    async def list_surplus(
        self, job_id: str, *, keep: int, before: datetime, limit: int
    ) -> list[FinishedExecution]:
        """Executions of a job that are older than its newest `keep` and finished before an
        instant, the oldest slot first."""
        newest = self._executions.find({"job_id": job_id}, {"_id": False, "scheduled_for": True})
        newest = newest.sort(LISTING_ORDER).hint(_BY_JOB).skip(keep - 1).limit(1)
        boundary = await newest.to_list(None)
        if not boundary:
            return []
        query = known(Execution) | {
            "job_id": job_id,
            # An execution that finished before an instant also had its slot before it.
            "scheduled_for": {"$lt": min(boundary[0]["scheduled_for"], before)},
            "finished_at": {"$type": "date", "$lt": before},
        }
        oldest = [(name, ASCENDING) for name, _ in LISTING_ORDER]
        found = self._executions.find(query, _FIELDS).sort(oldest).hint(_BY_JOB).limit(limit)
        return [_finished(document) for document in await found.to_list(None)]

    @database_call
    async def list_next_runs(self, job_ids: AbstractSet[str]) -> dict[str, datetime | None]:
        """The `next_run` of each of these jobs that exists."""
        found = self._jobs.find({"_id": {"$in": sorted(job_ids)}}, {"next_run": True})
        return {job["_id"]: job["next_run"] for job in await found.to_list(None)}

    @database_call
    async def has_newer(
        self, finished: FinishedExecution, statuses: AbstractSet[ExecutionStatus]
    ) -> bool:
        """Whether the job has an execution of a later slot that ended in one of `statuses`.

        Examines only the newest 1,000 of them; False if none of them ended in one of `statuses`.
        """
        later = {"job_id": finished.job_id, "scheduled_for": {"$gt": finished.scheduled_for}}
        found = self._executions.find(later, {"_id": False, "status": True})
        newest = found.sort(LISTING_ORDER).hint(_BY_JOB).limit(_MAX_EXAMINED)
        async for document in newest:
            if document["status"] in statuses:
                return True
        return False

    @database_call
    async def delete(self, execution_ids: Sequence[str]) -> int:
        """Delete finished executions; returns how many it deleted."""
        finished = {"_id": {"$in": list(execution_ids)}, "finished_at": {"$type": "date"}}
        query = known(Execution) | finished
        return (await self._executions.delete_many(query)).deleted_count


def _finished(document: Document) -> FinishedExecution:
    return FinishedExecution(
        id=document["_id"],
        job_id=document["job_id"],
        status=ExecutionStatus(document["status"]),
        scheduled_for=document["scheduled_for"],
        finished_at=document["finished_at"],
    )
