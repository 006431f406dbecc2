"""The `executions` collection as the janitor sees it: finished executions to delete."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

import structlog
from pymongo import ASCENDING

from app.models.execution import Execution, ExecutionStatus
from app.models.finished_execution import FinishedExecution
from app.repositories.documents import known
from app.repositories.execution_listings import LISTING_ORDER
from app.repositories.mongo import Database, Document, database_call

_log = structlog.get_logger(__name__)

_BY_JOB = "history_by_job"
_MAX_EXAMINED = 1_000
_MAX_READS = 10  # of one page; each deletes the executions of the page that cannot be read
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
        order = [("finished_at", ASCENDING), ("_id", ASCENDING)]
        return await self._read(query, order, limit)

    @database_call
    async def list_job_ids(self, *, after: str | None, limit: int) -> list[str]:
        """The ids of the jobs after `after`, in order."""
        query: Document = {"_id": {"$type": "string"} if after is None else {"$gt": after}}
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
        (boundary,) = await newest.to_list(None) or [{}]
        slot = boundary.get("scheduled_for")
        if not isinstance(slot, datetime):  # there are fewer, or the others have no valid slot
            return []
        query = known(Execution) | {
            "job_id": job_id,
            # An execution that finished before an instant also had its slot before it.
            "scheduled_for": {"$lt": min(slot, before)},
            "finished_at": {"$type": "date", "$lt": before},
        }
        oldest = [(name, ASCENDING) for name, _ in LISTING_ORDER]
        return await self._read(query, oldest, limit, hint=_BY_JOB)

    async def _read(
        self, query: Document, sort: Sequence[tuple[str, int]], limit: int, **options: str
    ) -> list[FinishedExecution]:
        """At most `limit` executions.

        Those that cannot be read are deleted: they are old enough, and no rule can keep them.
        """
        for _ in range(_MAX_READS):
            found = self._executions.find(query, _FIELDS, **options).sort(list(sort)).limit(limit)
            documents = await found.to_list(None)
            finished = [one for one in map(_find_finished, documents) if one is not None]
            if len(finished) == len(documents):
                break
            readable = {one.id for one in finished}
            odd = [one["_id"] for one in documents if one["_id"] not in readable]
            _log.error("unreadable_history_deleted", execution_ids=odd)
            await self._delete(odd)
        return finished

    @database_call
    async def list_next_runs(self, job_ids: AbstractSet[str]) -> dict[str, datetime | None]:
        """The `next_run` of each of these jobs that exists; None also if it is malformed."""
        found = self._jobs.find({"_id": {"$in": sorted(job_ids)}}, {"next_run": True})
        next_runs = {job["_id"]: job.get("next_run") for job in await found.to_list(None)}
        return {id_: at if isinstance(at, datetime) else None for id_, at in next_runs.items()}

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
            if document.get("status") in list(statuses):
                return True
        return False

    @database_call
    async def delete(self, execution_ids: Sequence[str]) -> int:
        """Delete finished executions; returns how many it deleted."""
        return await self._delete(execution_ids)

    async def _delete(self, execution_ids: Sequence[Any]) -> int:
        finished = {"_id": {"$in": list(execution_ids)}, "finished_at": {"$type": "date"}}
        query = known(Execution) | finished
        return (await self._executions.delete_many(query)).deleted_count


def _find_finished(document: Document) -> FinishedExecution | None:
    """None if a field that retention needs cannot be read."""
    texts = [document.get(name) for name in ("_id", "job_id", "status")]
    instants = [document.get(name) for name in ("scheduled_for", "finished_at")]
    if not all(isinstance(text, str) for text in texts):
        return None
    if not all(isinstance(instant, datetime) for instant in instants):
        return None
    if document["status"] not in set(ExecutionStatus):
        return None
    return FinishedExecution(
        id=document["_id"],
        job_id=document["job_id"],
        status=ExecutionStatus(document["status"]),
        scheduled_for=document["scheduled_for"],
        finished_at=document["finished_at"],
    )
