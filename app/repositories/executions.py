"""The `executions` collection as users see it: records are inserted, read and cancelled here.

The writes of workers are in `leases.py`, their renewals in `heartbeat.py`, the writes of the
overlap policies in `overlaps.py`, and the deletions in `history.py`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from pymongo import DESCENDING, timeout
from pymongo.errors import BulkWriteError

from app.errors import NotFoundError
from app.models.execution import (
    Execution,
    ExecutionKind,
    Reason,
)
from app.repositories import cancellation
from app.repositories.documents import known, to_document
from app.repositories.execution_listings import LARGE_FIELDS, ExecutionFilter, listing_of
from app.repositories.mongo import (
    LISTING_LIMIT,
    ONE_BATCH,
    Database,
    Document,
    aggregate,
    database_call,
)
from app.repositories.pages import FoundPage, read_page
from app.repositories.readers import ExecutionReader
from app.repositories.slot_records import (
    ONE_PER_SLOT,
    RECORD_FIELDS,
    SlotKey,
    SlotRecord,
    build_conditions,
    build_newest_record_stages,
    key_of,
    read_last_slot,
    read_slot_record,
)

INSERT_LIMIT = 1_000
"""The most records of one insert. Records that are inserted together have no parameters of users,
so that they are far below the server's 16 MB."""
CANCEL_LIMIT = 5_000
"""The most queued executions that the deletion of a job cancels."""
_CANCELLED_AT_ONCE = 500
_DUPLICATE_KEY = 11000


class InsertResult(StrEnum):
    """What became of a new record."""

    INSERTED = "inserted"
    """It is stored."""
    ALREADY_RECORDED = "recorded"
    """Its slot already has a record; nothing was stored."""
    OVERLAP = "overlap"
    """Another execution of the job is live; nothing was stored."""
    FULL = "full"
    """Its position among the job's waiting executions is taken; nothing was stored."""


class ExecutionRepository:
    """Inserts, reads and cancels. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._executions = database.collection("executions")
        self._reader = ExecutionReader(database)

    async def insert(self, execution: Execution) -> InsertResult:
        return (await self.insert_many([execution]))[0]

    @database_call
    async def insert_many(self, executions: Sequence[Execution]) -> list[InsertResult]:
        """Store each new record that violates no unique index. A second call changes nothing.

        A record can violate the slot index and a second index; the server reports one of them. If
        it reports the second index, the method looks for a record of the slot.
        """
        results: list[InsertResult] = []
        for start in range(0, len(executions), INSERT_LIMIT):
            results += await self._insert_chunk(executions[start : start + INSERT_LIMIT])
        return results

    async def _insert_chunk(self, executions: Sequence[Execution]) -> list[InsertResult]:
        documents = [to_document(execution, omit_none=True) for execution in executions]
        results = [InsertResult.INSERTED] * len(executions)
        try:
            await self._executions.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            for failed in read_duplicate_keys(error):
                results[failed["index"]] = _conflict(failed)
        by_others = (InsertResult.OVERLAP, InsertResult.FULL)
        keys = {
            i: key_of(execution)
            for i, execution in enumerate(executions)
            if results[i] in by_others and execution.kind in ONE_PER_SLOT
        }
        recorded = await self.list_recorded_slots(keys.values())
        for i, key in keys.items():
            if key in recorded:
                results[i] = InsertResult.ALREADY_RECORDED
        return results

    @database_call
    async def list_recorded(self, executions: Sequence[Execution]) -> dict[str, Execution]:
        """The stored records of these executions or of their slots, by the ids of the executions.

        They come without their attempts. Records of newer releases are left out.
        """
        if not executions:
            return {}
        ids = {key_of(e): e.id for e in executions if e.kind in ONE_PER_SLOT}
        same_id: Document = {"_id": {"$in": [e.id for e in executions]}}
        query = known(Execution) | {"$or": [same_id, *build_conditions(ids)]}
        documents = await self._executions.find(
            query, {"attempts": {"$slice": 0}}, batch_size=ONE_BATCH
        ).to_list(None)
        stored = await self._reader.read(documents)
        return {ids.get(key_of(e), e.id): e for e in stored}

    @database_call
    async def list_recorded_slots(self, keys: Collection[SlotKey]) -> dict[SlotKey, SlotRecord]:
        """The existing records of these slots, also those that a newer release wrote."""
        if not keys:
            return {}
        query = {"$or": build_conditions(keys)}
        found = self._executions.find(query, RECORD_FIELDS, batch_size=ONE_BATCH)
        return dict(read_slot_record(document) for document in await found.to_list(None))

    @database_call
    async def find_newest_slot_record(self, schedule_id: str, at: datetime) -> Execution | None:
        """The record of the schedule's newest recorded slot at or before `at`.

        No other record can belong to the instant `at` or count it as missed.
        """
        query = {
            "kind": ExecutionKind.SCHEDULED,
            "schedule_id": schedule_id,
            "scheduled_for": {"$lte": at},
        }
        document = await self._executions.find_one(query, sort=[("scheduled_for", DESCENDING)])
        return None if document is None else await self._reader.read_one(document)

    @database_call
    async def list_newest_slots(self, schedule_ids: Sequence[str]) -> dict[str, datetime]:
        """By schedule: its last slot that is recorded or counted as missed.

        One round trip, in which the server examines one key for each schedule.
        """
        if not schedule_ids:
            return {}
        first, *others = [build_newest_record_stages(schedule_id) for schedule_id in schedule_ids]
        unions = [{"$unionWith": {"coll": "executions", "pipeline": one}} for one in others]
        documents = await aggregate(self._executions, [*first, *unions])
        return dict(slot for document in documents if (slot := read_last_slot(document)))

    @database_call
    async def get(self, execution_id: str, *, owner_id: str | None) -> Execution:
        """One execution. With `owner_id` None it may belong to any owner. Raises NotFoundError."""
        query: Document = {"_id": execution_id}
        if owner_id is not None:
            query["owner_id"] = owner_id
        document = await self._executions.find_one(query)
        if document is None:
            raise NotFoundError.of("execution")
        return await self._reader.read_one(document)

    @database_call
    async def list_executions(
        self,
        wanted: ExecutionFilter,
        *,
        limit: int,
        before: tuple[datetime, str] | None = None,
        partial: bool = False,
    ) -> FoundPage[Execution]:
        """The newest slots first, starting just after `before` (slot, id). At most `limit`, and
        fewer if they are large.

        Partial executions are read without their `LARGE_FIELDS`. Raises UnavailableError after two
        seconds.
        """
        with timeout(LISTING_LIMIT.total_seconds()):
            return await read_page(
                self._executions,
                listing_of(wanted, before),
                self._reader.read,
                limit=limit,
                without=LARGE_FIELDS if partial else (),
            )

    @database_call
    async def cancel_queued(self, execution_id: str, *, reason: Reason) -> bool:
        """Cancel a queued execution; False if it is not queued (any more)."""
        result = await self._executions.update_one(
            known(Execution) | {"_id": execution_id} | cancellation.CAN_END,
            cancellation.end(reason, self._now),
        )
        return result.matched_count == 1

    @database_call
    async def request_cancel(self, execution_id: str, *, reason: Reason) -> bool:
        """Ask a running execution to stop; False if it does not run, or was asked before."""
        result = await self._executions.update_one(
            known(Execution) | {"_id": execution_id} | cancellation.CAN_BE_ASKED,
            cancellation.request(reason, self._now),
        )
        return result.matched_count == 1

    @database_call
    async def cancel_for_deleted_job(self, job_id: str) -> None:
        """Cancel the job's queued executions and ask the running ones to stop.

        It cancels at most `CANCEL_LIMIT`, so that the request ends in time. A worker cancels the
        others when it claims them.
        """
        of_job = known(Execution) | {"job_id": job_id}
        for _ in range(0, CANCEL_LIMIT, _CANCELLED_AT_ONCE):
            queued = self._executions.find(
                of_job | cancellation.CAN_END, {"_id": True}, limit=_CANCELLED_AT_ONCE
            )
            ids = [document["_id"] for document in await queued.to_list(None)]
            if not ids:
                break
            await self._executions.update_many(
                of_job | cancellation.CAN_END | {"_id": {"$in": ids}},
                cancellation.end(Reason.JOB_DELETED, self._now),
            )
        await self._executions.update_many(
            of_job | cancellation.CAN_BE_ASKED, cancellation.request(Reason.JOB_DELETED, self._now)
        )

    @property
    def _now(self) -> Any:
        return self._database.clock.now_expression


def read_duplicate_keys(error: BulkWriteError) -> list[dict[str, Any]]:
    """The duplicate keys of a failed batch. Raises the error again if it has any other cause."""
    write_errors: list[dict[str, Any]] = error.details["writeErrors"]
    if error.details["writeConcernErrors"] or any(
        failed["code"] != _DUPLICATE_KEY for failed in write_errors
    ):
        raise error
    return write_errors


def _conflict(failed: dict[str, Any]) -> InsertResult:
    if "live_for" in failed["keyPattern"]:
        return InsertResult.OVERLAP
    if "place" in failed["keyPattern"]:
        return InsertResult.FULL
    return InsertResult.ALREADY_RECORDED
