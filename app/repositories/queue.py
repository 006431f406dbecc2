"""The queue of the `executions` collection, as the owners of its executions take turns in it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import encode
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING

from app.models.execution import ExecutionStatus
from app.repositories.claims import QUEUE
from app.repositories.documents import Unreadable, read_key
from app.repositories.mongo import Database, Document, aggregate, database_call
from app.repositories.readers import ExecutionReader

MAX_OWNERS = 1_000
"""The most owners that one read returns."""

_MAX_ODD = 10
_BATCH = 500

_QUEUED: Document = {name: QUEUE[name] for name in ("status", "waiting")}
"""Without the condition on `schema`, which no index contains: the aggregation reads only keys."""

_NOT_UTF_8 = re.compile("[\udc80-\udcff]")
"""What "surrogateescape" reads bytes as that are not UTF-8."""

_NOTED: Document = {"job_id": True, "scheduled_for": True}
"""What is noted of an execution that ends unread."""


@dataclass(frozen=True, slots=True)
class DueOwners:
    """Who has executions that may start now."""

    now: datetime
    """The database's now."""
    owners: list[str]
    """In the order of their ids, beginning after the id that the caller has named."""
    total: int
    """How many owners there are. `owners` has at most `MAX_OWNERS` of them."""
    first_run_at: datetime | None
    """The earliest `run_at` of what is due; None if nothing is."""
    next_run_at: datetime | None
    """When the first execution of any other owner may start."""


class QueueRepository:
    """Reads of the queue before a claim. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._executions = database.collection("executions")
        self._reader = ExecutionReader(database)
        self._exact: Any = self._executions.with_options(
            codec_options=self._executions.codec_options.with_options(
                document_class=RawBSONDocument, unicode_decode_error_handler="surrogateescape"
            )
        )
        """Returns each stored value without a change, also text that is not UTF-8."""

    @database_call
    async def list_due_owners(self, *, after: str) -> DueOwners:
        """The owners of due executions, those with an id greater than `after` first.

        Examines one key of the index `claimable_by_owner` for each owner that has queued
        executions, and no document. So an owner may be in the list although this process knows none
        of its executions, because a newer release has written them.
        """
        [found] = await aggregate(self._exact, self.build_due_owners(after))
        odd = [owner_id for owner_id in found["owners"] if not _is_utf_8(owner_id)]
        for condition in (*found["odd"], *map(_equals, odd[:_MAX_ODD])):
            await self._end_odd(condition)
        return DueOwners(
            now=found["now"],
            owners=[owner_id for owner_id in found["owners"] if _is_utf_8(owner_id)],
            total=found.get("total", 0) - len(odd),
            first_run_at=read_key(found, "first_run_at") if "total" in found else None,
            next_run_at=read_key(found, "run_at") if "run_at" in found else None,
        )

    async def _end_odd(self, condition: RawBSONDocument) -> None:
        """End queued executions whose `owner_id` is no text: nobody's turn would come to them."""
        found = self._executions.find({"$and": [QUEUE, condition]}, _NOTED).limit(_BATCH)
        documents = await found.to_list(None)
        await self._reader.end([Unreadable(document, "owner_id") for document in documents])

    @database_call
    async def count_running(self, owner_ids: Sequence[str]) -> dict[str, int]:
        """How many executions of these owners run in all processes; no entry is none.

        Examines one key for each of them. One whose lease has run out counts until it is settled.
        """
        running = {"owner_id": {"$in": list(owner_ids)}, "status": ExecutionStatus.RUNNING}
        counts = await aggregate(
            self._executions,
            [{"$match": running}, {"$group": {"_id": "$owner_id", "count": {"$sum": 1}}}],
        )
        return {count["_id"]: count["count"] for count in counts}

    def build_due_owners(self, after: str) -> list[Document]:
        """One DISTINCT_SCAN: the first three stages are what MongoDB turns into one. An `$expr` in
        the first stage would prevent this."""
        now = self._database.clock.now_expression
        is_due = {"$lte": ["$run_at", now]}
        is_text = {"$eq": [{"$type": "$_id"}, "string"]}
        due = {"$match": {"$expr": {"$and": [is_due, is_text]}}}
        # The condition on this very value: as a raw document it loses nothing on its way back.
        equals = {"$arrayToObject": [[{"k": {"$literal": "$eq"}, "v": "$_id"}]]}
        first_run_at = {"$min": "$run_at"}
        keys = ("status", "waiting", "owner_id", "run_at")
        return [
            {"$match": _QUEUED},
            {"$sort": dict.fromkeys(keys, ASCENDING)},
            {"$group": {"_id": "$owner_id", "run_at": {"$first": "$run_at"}}},
            {
                "$facet": {
                    "due": [
                        due,
                        {"$project": {"is_before": {"$lte": ["$_id", {"$literal": after}]}}},
                        {"$sort": {"is_before": ASCENDING, "_id": ASCENDING}},
                        {"$limit": MAX_OWNERS},
                    ],
                    "count": [
                        due,
                        {"$group": {"_id": None, "total": {"$sum": 1}, "run_at": first_run_at}},
                    ],
                    "later": [
                        {"$match": {"$expr": {"$not": is_due}}},
                        {"$group": {"_id": None, "run_at": first_run_at}},
                    ],
                    "odd": [
                        {"$match": {"$expr": {"$not": is_text}}},
                        {"$limit": _MAX_ODD},
                        {"$project": {"_id": False, "owner_id": equals}},
                    ],
                }
            },
            {
                "$project": {
                    "owners": "$due._id",
                    "total": {"$first": "$count.total"},
                    "first_run_at": {"$first": "$count.run_at"},
                    "run_at": {"$first": "$later.run_at"},
                    "odd": True,
                    "now": now,
                }
            },
        ]


def _is_utf_8(text: str) -> bool:
    return _NOT_UTF_8.search(text) is None


def _equals(owner_id: str) -> RawBSONDocument:
    """The condition on an `owner_id` that is not UTF-8, which the driver does not encode."""
    stored = owner_id.encode(errors="surrogateescape")
    filler = b"x" * len(stored)
    return RawBSONDocument(encode({"owner_id": filler.decode()}).replace(filler, stored))
