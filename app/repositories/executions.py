"""The `executions` collection as users see it: records are born, read and cancelled here.

What workers do to a queued or running execution is in `leases.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pymongo import DESCENDING
from pymongo.errors import BulkWriteError

from app.errors import NotFoundError
from app.models.execution import Execution, ExecutionKind, ExecutionStatus
from app.repositories.documents import from_document, to_document
from app.repositories.mongo import Database, Document, database_call

LISTING_ORDER = (("scheduled_for", DESCENDING), ("_id", DESCENDING))

ONE_A_SLOT = {ExecutionKind.SCHEDULED, ExecutionKind.BACKFILL}
_DUPLICATE_KEY = 11000
_LISTING_MS = 2_000  # a filter without an index of its own must not read for long


class InsertResult(StrEnum):
    """What became of a new record."""

    INSERTED = "inserted"
    """It is stored."""
    RECORDED = "recorded"
    """Its slot has a record already; nothing was stored."""
    OVERLAP = "overlap"
    """Another execution of the job is live; nothing was stored."""
    FULL = "full"
    """Its place among the job's waiting executions is taken; nothing was stored."""


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions a listing names. None means any; `until` is exclusive."""

    owner_id: str | None = None
    job_id: str | None = None
    statuses: frozenset[ExecutionStatus] | None = None
    kind: ExecutionKind | None = None
    since: datetime | None = None
    until: datetime | None = None


class ExecutionRepository:
    """Inserts, reads and cancels. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._executions = database.collection("executions")

    async def insert(self, execution: Execution) -> InsertResult:
        return (await self.insert_many([execution]))[0]

    @database_call
    async def insert_many(self, executions: Sequence[Execution]) -> list[InsertResult]:
        """Store new records, each if the indexes allow it. A second try changes nothing.

        One insert can hit the slot's index and another one at once, and the server names only one
        of them; so where it names the other, the slot's own record is looked for.
        """
        if not executions:
            return []
        documents = [to_document(execution, omit_none=True) for execution in executions]
        results = [InsertResult.INSERTED] * len(executions)
        try:
            await self._executions.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            for failed in _write_errors(error):
                results[failed["index"]] = _conflict(failed)
        in_the_way = (InsertResult.OVERLAP, InsertResult.FULL)
        refused = [i for i, result in enumerate(results) if result in in_the_way]
        if refused:
            recorded = await self._recorded([executions[i] for i in refused])
            for i in refused:
                if slot_of(executions[i]) in recorded:
                    results[i] = InsertResult.RECORDED
        return results

    async def _recorded(self, executions: Sequence[Execution]) -> list[Document]:
        """Which of their slots have a record."""
        slots = [slot_of(e) for e in executions if e.kind in ONE_A_SLOT]
        if not slots:
            return []
        fields = {"_id": False, **dict.fromkeys((*slots[0], "backfill_id"), True)}
        return await self._executions.find({"$or": slots}, fields).to_list(None)

    @database_call
    async def find_slots(
        self, schedule_id: str, scheduled_for: Sequence[datetime]
    ) -> list[Execution]:
        """The records of these slots, as far as there are any."""
        query = {
            "kind": "scheduled",
            "schedule_id": schedule_id,
            "scheduled_for": {"$in": list(scheduled_for)},
        }
        return [
            from_document(Execution, d) for d in await self._executions.find(query).to_list(None)
        ]

    @database_call
    async def find_newest_slot(self, schedule_id: str, at: datetime) -> Execution | None:
        """The record of the schedule's newest recorded slot at or before `at`: the only one that
        can be of that instant, or count it among missed ones."""
        query = {
            "kind": "scheduled",
            "schedule_id": schedule_id,
            "scheduled_for": {"$lte": at},
        }
        document = await self._executions.find_one(query, sort=[("scheduled_for", DESCENDING)])
        return None if document is None else from_document(Execution, document)

    @database_call
    async def get(self, execution_id: str, *, owner_id: str | None) -> Execution:
        """One execution; `owner_id` None means anybody's. Raises NotFoundError."""
        query: Document = {"_id": execution_id}
        if owner_id is not None:
            query["owner_id"] = owner_id
        document = await self._executions.find_one(query)
        if document is None:
            raise NotFoundError(f"There is no execution {execution_id!r}.")
        return from_document(Execution, document)

    @database_call
    async def list_executions(
        self,
        wanted: ExecutionFilter,
        *,
        limit: int,
        before: tuple[datetime, str] | None = None,
    ) -> list[Execution]:
        """The newest slots first, from just after `before` (slot, id) on. At most `limit`."""
        cursor = self._executions.find(listing_query(wanted, before)).hint(listing_index(wanted))
        cursor = cursor.sort(list(LISTING_ORDER)).limit(limit).max_time_ms(_LISTING_MS)
        return [from_document(Execution, document) for document in await cursor.to_list(None)]

    @database_call
    async def cancel_queued(self, execution_id: str, *, reason: str) -> bool:
        """End an execution that waits; False if it does not wait (any more)."""
        ended = {"status": "cancelled", "reason": {"$literal": reason}}
        ended["finished_at"] = self._database.clock.now_expression
        result = await self._executions.update_one(
            {"_id": execution_id, "status": "queued"},
            [{"$set": ended}, {"$unset": ["live_for", "place"]}],
        )
        return result.matched_count == 1

    @database_call
    async def request_cancel(self, execution_id: str, *, reason: str) -> bool:
        """Ask a running execution to stop; False if it does not run, or was asked before."""
        asked = {"cancel_requested_at": self._database.clock.now_expression}
        result = await self._executions.update_one(
            {"_id": execution_id, "status": "running", "cancel_requested_at": None},
            [{"$set": asked | {"reason": {"$literal": reason}}}],
        )
        return result.matched_count == 1

    @database_call
    async def cancel_for_deleted_job(self, job_id: str) -> None:
        """End what is queued and ask what runs to stop. A second try changes nothing."""
        now = self._database.clock.now_expression
        reason = {"$literal": "job_deleted"}
        await self._executions.update_many(
            {"job_id": job_id, "status": "queued"},
            [
                {"$set": {"status": "cancelled", "reason": reason, "finished_at": now}},
                {"$unset": ["live_for", "place"]},
            ],
        )
        await self._executions.update_many(
            {"job_id": job_id, "status": "running", "cancel_requested_at": None},
            [{"$set": {"cancel_requested_at": now, "reason": reason}}],
        )


def _write_errors(error: BulkWriteError) -> list[dict[str, Any]]:
    """The duplicate keys of a failed batch; raises the error again if there was any other."""
    write_errors: list[dict[str, Any]] = error.details["writeErrors"]
    if error.details["writeConcernErrors"] or any(
        failed["code"] != _DUPLICATE_KEY for failed in write_errors
    ):
        raise error
    return write_errors


def slot_of(execution: Execution) -> Document:
    """What no two executions of its kind may share."""
    slot: Document = {
        "kind": str(execution.kind),
        "schedule_id": execution.schedule_id,
        "scheduled_for": execution.scheduled_for,
    }
    return slot if execution.backfill_id is None else slot | {"backfill_id": execution.backfill_id}


def _conflict(failed: dict[str, Any]) -> InsertResult:
    if "live_for" in failed["keyPattern"]:
        return InsertResult.OVERLAP
    if "place" in failed["keyPattern"]:
        return InsertResult.FULL
    return InsertResult.RECORDED


def listing_index(wanted: ExecutionFilter) -> str:
    """The index whose order is the listing's: named, since the planner at times sorts instead."""
    if wanted.job_id is not None:
        return "history_by_job"
    if wanted.owner_id is None:
        return "history"
    return "history_by_owner" if wanted.statuses is None else "history_by_owner_and_status"


def listing_query(wanted: ExecutionFilter, before: tuple[datetime, str] | None) -> Document:
    query: Document = {}
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
        slot, execution_id = before
        slots["$lte"] = slot
        query["$or"] = [{"scheduled_for": {"$lt": slot}}, {"_id": {"$lt": execution_id}}]
    if slots:
        query["scheduled_for"] = slots
    return query
