"""The `job_revisions` collection as the janitor sees it: records that no execution refers to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from pymongo import ASCENDING

from app.models.job_revision import JobRevision
from app.repositories.documents import known
from app.repositories.execution_listings import LISTING_ORDER, HistoryPosition, build_rest_query
from app.repositories.mongo import Database, Document, database_call

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReplacedRevision:
    """What retention needs of a record."""

    id: str
    job_id: str
    revision: int
    replaced_at: datetime


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Records in the order of their ids, and the last id that was read; None at the end."""

    records: Sequence[ReplacedRevision]
    reached: str | None


@dataclass(frozen=True, slots=True)
class UsedRevisions:
    """The revisions that attempts of a page of executions have sent, and the position where the
    next page starts; None at the end."""

    revisions: frozenset[int]
    reached: HistoryPosition | None
    is_complete: bool = True
    """False if an execution is malformed, so that the others of its job cannot be listed."""


class ReplacedRevisionRepository:
    """Reads and deletes records. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._revisions = database.collection("job_revisions")
        self._executions = database.collection("executions")

    async def now(self) -> datetime:
        """The database's present instant."""
        return await self._database.now()

    @database_call
    async def list_records(self, *, after: str | None, limit: int) -> RecordPage:
        """The records after this id. Those of a job follow each other. Malformed ones are logged
        and left out."""
        ids: Document = {"$type": "string"} if after is None else {"$gt": after}
        fields = dict.fromkeys(("job_id", "revision", "replaced_at"), True)
        found = self._revisions.find(known(JobRevision) | {"_id": ids}, fields)
        documents = await found.sort("_id", ASCENDING).limit(limit).to_list(None)
        records = [one for one in map(_find_record, documents) if one is not None]
        if len(records) < len(documents):
            odd = {one["_id"] for one in documents} - {one.id for one in records}
            _log.error("job_revisions_unreadable", record_ids=sorted(odd))
        reached = documents[-1]["_id"] if len(documents) == limit else None
        if after is not None and reached is not None and reached <= after:
            reached = None  # an id that is not UTF-8: the database sorts it behind what is read
        return RecordPage(records, reached)

    @database_call
    async def list_used(
        self, job_id: str, *, after: HistoryPosition | None, limit: int
    ) -> UsedRevisions:
        """The revisions that a page of the job's executions refers to, the newest slot first."""
        query: Document = {"job_id": job_id}
        if after is not None:
            query |= build_rest_query(after)
        fields = {"scheduled_for": True, "attempts.job_revision": True}
        found = self._executions.find(query, fields, hint="history_by_job").sort(LISTING_ORDER)
        documents = await found.limit(limit).to_list(None)
        used = frozenset(number for one in documents for number in _list_numbers(one))
        if len(documents) < limit:
            return UsedRevisions(used, None)
        match documents[-1]:
            case {"_id": str(last_id), "scheduled_for": datetime() as last_slot}:
                return UsedRevisions(used, (last_slot, last_id))
        return UsedRevisions(used, None, is_complete=False)

    @database_call
    async def delete(self, record_ids: Sequence[str], *, before: datetime) -> int:
        """Delete those of these records that no edit has renewed since; returns how many."""
        old = {"_id": {"$in": list(record_ids)}, "replaced_at": {"$lt": before}}
        return (await self._revisions.delete_many(known(JobRevision) | old)).deleted_count


def _find_record(document: Document) -> ReplacedRevision | None:
    """None if a field cannot be read."""
    match document:
        case {
            "_id": str(id_),
            "job_id": str(job_id),
            "revision": int(revision),
            "replaced_at": datetime() as replaced_at,
        }:
            return ReplacedRevision(id_, job_id, revision, replaced_at)
    return None


def _list_numbers(execution: Document) -> list[int]:
    attempts = execution.get("attempts")
    if not isinstance(attempts, list):
        return []
    numbers = (one.get("job_revision") for one in attempts if isinstance(one, dict))
    return [number for number in numbers if isinstance(number, int)]
