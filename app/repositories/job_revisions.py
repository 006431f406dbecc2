"""The `job_revisions` collection: the parameters of revisions that edits and deletions replaced.

A job has the parameters of its present revision itself. A record is stored before its revision is
replaced, so each revision that a process of this release has replaced can be read at any time.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from app.loop_turns import wait_for_loop_turn
from app.models.job import Job
from app.models.job_revision import JobRevision, RevisionKey
from app.models.page import PAGE_BYTES
from app.repositories.documents import known, to_document
from app.repositories.free_form import decode_json
from app.repositories.mongo import Database, Document, aggregate, database_call

_log = structlog.get_logger(__name__)

_SMALLEST_BYTES = 4_096
"""The least that a record counts. It bounds the number of index keys of a sum."""
_DROPPED_AT_ONCE = 100
_DECODED_AT_ONCE = 5


class JobRevisionRepository:
    """Stores and finds parameters. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._revisions = database.collection("job_revisions")

    @database_call
    async def store(self, revision: JobRevision) -> int:
        """Store the record of a revision, and return its size in bytes. A second record of a
        revision has the same parameters, so it only renews `replaced_at`."""
        document = to_document(revision)
        size = max(_SMALLEST_BYTES, len(document["parameters"].encode()))
        document["bytes"] = size
        query = known(JobRevision) | {"_id": revision.id}
        with suppress(DuplicateKeyError):  # another edit, or a newer release, has stored it
            await self._revisions.replace_one(query, document, upsert=True)
        return size

    @database_call
    async def sum_bytes(self, owner_id: str) -> int:
        """The size of the records of an owner. Reads only index keys."""
        pipeline = build_sum(owner_id)
        found = await aggregate(self._revisions, pipeline, hint="by_owner")
        return int(found[0]["bytes"]) if found else 0

    @database_call
    async def drop_oldest(self, owner_id: str, *, bytes_: int, kept_id: str) -> int:
        """Delete the records of an owner that were replaced first, until they have at least this
        size together. Deletes at most 100, and not `kept_id`; returns how many."""
        query = known(JobRevision) | {"owner_id": owner_id, "_id": {"$ne": kept_id}}
        oldest = self._revisions.find(query, {"bytes": True}).sort("replaced_at", ASCENDING)
        chosen, left = [], bytes_
        async for document in oldest.hint("by_owner").limit(_DROPPED_AT_ONCE):
            if left <= 0:
                break
            size = document.get("bytes")
            left -= size if isinstance(size, int) else _SMALLEST_BYTES
            chosen.append(document["_id"])
        deleted = await self._revisions.delete_many(known(JobRevision) | {"_id": {"$in": chosen}})
        return deleted.deleted_count

    @database_call
    async def find_parameters(
        self, keys: Sequence[RevisionKey]
    ) -> Mapping[RevisionKey, dict[str, Any] | None]:
        """The parameters of these revisions, of the first ones with at most `PAGE_BYTES` together
        if that is not all. One round trip. None for a revision without readable parameters: an
        earlier release replaced it, its record was deleted, or the stored value is malformed.
        """
        if not keys:
            return {}
        found: dict[RevisionKey, dict[str, Any] | None] = {}
        for document in await self._database.compute(build_parameters_query(keys)):
            key = keys[document["n"]]
            found[key] = _decode(key, document.get("parameters"))
            if len(found) % _DECODED_AT_ONCE == 0:
                await wait_for_loop_turn()
        return found


def build_sum(owner_id: str) -> list[Document]:
    # A malformed size can be decimal, which MongoDB adds up as such, or infinite.
    size = {"$convert": {"input": "$bytes", "to": "long", "onError": 0}}
    return [
        {"$match": {"owner_id": owner_id}},
        {"$group": {"_id": None, "bytes": {"$sum": size}}},
    ]


def build_parameters_query(keys: Sequence[RevisionKey]) -> list[Document]:
    """A document for each key, with its position `n` and, if they are found, its `parameters`."""
    wanted = [
        {"n": n, "id": key.id, "job_id": key.job_id, "revision": key.revision}
        for n, key in enumerate(keys)
    ]
    is_present = {"$expr": {"$eq": ["$revision", "$$revision"]}}
    so_far = {"$sum": {"$bsonSize": "$$ROOT"}, "window": {"documents": ["unbounded", "current"]}}
    return [
        {"$documents": {"$literal": wanted}},
        # The job before the record: an edit in between has stored the record before it.
        {
            "$lookup": {
                "from": "jobs",
                "localField": "job_id",
                "foreignField": "_id",
                "let": {"revision": "$revision"},
                "pipeline": [
                    {"$match": known(Job) | is_present},
                    {"$project": {"_id": False, "parameters": True}},
                ],
                "as": "job",
            }
        },
        {
            "$lookup": {
                "from": "job_revisions",
                "localField": "id",
                "foreignField": "_id",
                "pipeline": [
                    {"$match": known(JobRevision)},
                    {"$project": {"_id": False, "parameters": True}},
                ],
                "as": "record",
            }
        },
        {
            "$project": {
                "n": True,
                "parameters": {
                    "$first": {"$concatArrays": ["$job.parameters", "$record.parameters"]}
                },
            }
        },
        {"$setWindowFields": {"sortBy": {"n": ASCENDING}, "output": {"so_far": so_far}}},
        {"$match": {"$or": [{"n": 0}, {"so_far": {"$lte": PAGE_BYTES}}]}},
        {"$project": {"so_far": False}},
    ]


def _decode(key: RevisionKey, text: Any) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        parameters = decode_json(text)
    except (ValueError, TypeError) as error:
        _log.error("parameters_unreadable", record_id=key.id, problem=type(error).__name__)
        return None
    return parameters if isinstance(parameters, dict) else None
