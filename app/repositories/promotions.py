"""Promotions: the waiting execution with the earliest slot becomes the live one of its job.

Every read of waiting executions is a scan of the index `waiting` that examines one key for each
job, however many executions of the job wait. A condition on `schema` would prevent this, so the
schema numbers are checked after the read.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING, UpdateOne
from pymongo.errors import BulkWriteError

from app.models.execution import Execution, ExecutionStatus
from app.repositories.documents import SCHEMAS, known
from app.repositories.executions import read_duplicate_keys
from app.repositories.fields import read_field
from app.repositories.mongo import ONE_BATCH, Database, Document, aggregate, database_call

_MAX_TRIES = 3  # a try fails if an execution changes its status between the read and the write

_PROMOTIONS = 1_000  # in one statement

PAGE = ONE_BATCH
"""The most jobs of one page. A page much below the 4 MB that the server reads ahead would cost as
much as this one."""

WAITING: Document = {"status": ExecutionStatus.QUEUED, "waiting": True}

_INDEX = "waiting"
_ORDER = dict.fromkeys(("status", "waiting", "job_id", "scheduled_for", "_id"), ASCENDING)


@dataclass(frozen=True, slots=True)
class StalledJobs:
    """Jobs with waiting executions and without a live one, of one page of jobs."""

    job_ids: list[str]
    last: str | None
    """The last job of the page; None if no page follows."""


class PromotionRepository:
    """Reads waiting executions and makes them live. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._executions = database.collection("executions")

    @database_call
    async def list_waiting_jobs(self, job_ids: Collection[str]) -> set[str]:
        """Those of these jobs that have waiting executions."""
        return set(_read_ids(await self._read_jobs({"$in": list(job_ids)}, [])))

    @database_call
    async def list_stalled_jobs(self, *, after: str | None, limit: int = PAGE) -> StalledJobs:
        """The stalled ones among the next `limit` jobs with waiting executions. The page starts
        just after the job `after`, or at the first job."""
        page, first = {"$gt": after or ""}, {"$limit": limit}
        found = await self._read_jobs(page, [first])
        if len(found) == limit and not _is_sorted(found):
            # An array that was stored as a `job_id` makes the index multikey. The server then reads
            # all documents and returns the jobs in an undefined order, which is not that of the ids
            # by chance: a page is large.
            found = await self._read_jobs(page, [{"$sort": {"_id": ASCENDING}}, first])
        job_ids = _read_ids(found)
        live = await self._list_live(job_ids)
        last = job_ids[-1] if job_ids and len(found) == limit else None
        return StalledJobs([job_id for job_id in job_ids if job_id not in live], last)

    @database_call
    async def promote(self, job_ids: Iterable[str]) -> set[str]:
        """Make the waiting execution with the earliest slot live, for each of these jobs that has
        no live one.

        Returns the jobs whose execution is live now, also if another process has made it live. It
        can contain a job whose waiting execution was cancelled meanwhile.
        """
        promoted: set[str] = set()
        remaining = set(job_ids)
        for _ in range(_MAX_TRIES):
            first = await self._list_first_waiting(remaining)
            blocked, is_complete = await self._promote_all(first)
            promoted |= first.keys() - blocked
            if is_complete:
                break
            # One of them was cancelled or promoted in between, and another one may be the first.
            remaining = set(first)
        return promoted

    async def _promote_all(self, first: dict[str, str]) -> tuple[set[str], bool]:
        """Promote these executions, by job. Returns the jobs that have another live one, and
        whether each of the others was promoted."""
        blocked: set[str] = set()
        promoted = 0
        jobs = list(first)
        for start in range(0, len(jobs), _PROMOTIONS):
            chunk = jobs[start : start + _PROMOTIONS]
            promotions = [
                UpdateOne(known(Execution) | WAITING | {"_id": first[job]}, _build_promotion(job))
                for job in chunk
            ]
            try:
                result = await self._executions.bulk_write(promotions, ordered=False)
            except BulkWriteError as error:
                blocked |= {chunk[failed["index"]] for failed in read_duplicate_keys(error)}
                promoted += error.details["nMatched"]
            else:
                promoted += result.matched_count
        return blocked, promoted + len(blocked) == len(first)

    async def _list_first_waiting(self, job_ids: Collection[str]) -> dict[str, str]:
        """For each of these jobs without a live execution: the id of the waiting execution with
        the earliest slot. One of a newer release is left alone."""
        first, newer = await self._read_first(job_ids, WAITING)
        if newer:
            first |= (await self._read_first(newer, WAITING | known(Execution)))[0]
        live = await self._list_live(first)
        return {job_id: id_ for job_id, id_ in first.items() if job_id not in live}

    async def _read_first(
        self, job_ids: Collection[str], waiting: Document
    ) -> tuple[dict[str, str], list[str]]:
        """The id of the first one of each job, and the jobs whose first one is of a newer release.

        MongoDB turns the stages into one scan that reads one document for each job.
        """
        pipeline: list[Document] = [
            {"$match": waiting | {"job_id": {"$in": list(job_ids)}}},
            {"$sort": _ORDER},
            {
                "$group": {
                    "_id": "$job_id",
                    "first": {"$first": "$_id"},
                    "schema": {"$first": "$schema"},
                }
            },
        ]
        first: dict[str, str] = {}
        newer: list[str] = []
        for one in await aggregate(self._executions, pipeline, hint=_INDEX):
            job_id = read_field(one, "_id", str)
            if job_id is None:
                continue
            if _is_newer(one.get("schema")):
                newer.append(job_id)
            else:
                first[job_id] = one["first"]
        return first, newer

    async def _read_jobs(self, job_id: Document, stages: list[Document]) -> list[Document]:
        """The jobs that meet the condition and have waiting executions, by a scan in the order of
        their ids."""
        pipeline: list[Document] = [
            {"$match": WAITING | {"job_id": job_id}},
            {"$sort": _ORDER},
            {"$group": {"_id": "$job_id"}},
            *stages,
        ]
        return await aggregate(self._executions, pipeline, hint=_INDEX)

    async def _list_live(self, job_ids: Collection[str]) -> set[str]:
        """Those of these jobs that have a live execution."""
        if not job_ids:
            return set()
        live = await self._executions.find(
            {"live_for": {"$in": list(job_ids)}},
            {"_id": False, "live_for": True},
            batch_size=ONE_BATCH,
        ).to_list(None)
        return {job_id for one in live if (job_id := read_field(one, "live_for", str))}


def _read_ids(found: Iterable[Document]) -> list[str]:
    return [job_id for one in found if (job_id := read_field(one, "_id", str))]


def _is_sorted(found: list[Document]) -> bool:
    job_ids = _read_ids(found)
    return len(job_ids) == len(found) and job_ids == sorted(job_ids)


def _is_newer(schema: Any) -> bool:
    return isinstance(schema, int | float) and schema > SCHEMAS[Execution]


def _build_promotion(job_id: str) -> Document:
    return {"$set": {"waiting": False, "live_for": job_id}, "$unset": {"place": True}}
