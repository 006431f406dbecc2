"""Migrations: forward steps that bring stored documents up to this release's shapes.

Each step is one update of each older document, atomic and depending on that document alone. It
sets the document's `schema` number in the same write. So several processes may run the steps at
the same time, and if a process ends during a step, the next process completes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from pymongo import ASCENDING

from app.repositories.documents import SCHEMA_VERSION
from app.repositories.meta import MetaRepository
from app.repositories.mongo import Collection, Database, Document, database_call

_log = structlog.get_logger(__name__)

_PAGE = 500  # documents per write: far below the time limit of a database call


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a collection's stored shape: `update` is the pipeline that makes it."""

    number: int
    collection: str
    update: Sequence[Document] = ()


def _rename(old: str, new: str, *, default: object) -> tuple[Document, ...]:
    """A document that has the new name already keeps its value; one with neither gets `default`."""
    present = {"$ifNull": [f"${old}", {"$ifNull": [f"${new}", {"$literal": default}]}]}
    return ({"$set": {new: present}}, {"$unset": old})


STEPS = (
    Step(2, "jobs"),  # documents carry their schema number
    Step(2, "users"),
    Step(2, "executions", _rename("held", "waiting", default=False)),
    Step(2, "idempotency_keys", _rename("answer", "response", default=None)),
)
"""In the order in which they apply. A step is never changed after its release."""


async def migrate(database: Database, *, meta: MetaRepository, again: bool = False) -> None:
    """Bring every document of an earlier release up to `SCHEMA_VERSION`.

    With `again`, every document is checked even if all were migrated before, because processes of
    the earlier release may have written documents since then. Raises UnavailableError.
    """
    present = await meta.get_schema_version()
    if present > SCHEMA_VERSION:
        _log.warning("database_is_newer", schema_version=present, known=SCHEMA_VERSION)
    await meta.raise_schema_version(SCHEMA_VERSION)
    if again or await meta.get_migrated_version() < SCHEMA_VERSION:
        for step in STEPS:
            await _apply(step, database.collection(step.collection))
        await meta.raise_migrated_version(SCHEMA_VERSION)


async def _apply(step: Step, documents: Collection) -> None:
    """Walk through the collection by id, because no index contains `schema`."""
    pipeline = [*step.update, {"$set": {"schema": step.number}}]
    migrated = 0
    ids = await _list_ids(documents, after=None)
    while ids:
        older = {"_id": {"$in": ids}, "schema": {"$not": {"$gte": step.number}}}
        migrated += await _update(documents, older, pipeline)
        ids = await _list_ids(documents, after=ids[-1])
    if migrated:
        _log.info(
            "documents_migrated", collection=step.collection, schema=step.number, count=migrated
        )


@database_call
async def _list_ids(documents: Collection, *, after: str | None) -> list[str]:
    query: Document = {} if after is None else {"_id": {"$gt": after}}
    found = documents.find(query, {"_id": True}).sort("_id", ASCENDING).limit(_PAGE)
    return [document["_id"] for document in await found.to_list(None)]


@database_call
async def _update(documents: Collection, query: Document, pipeline: list[Document]) -> int:
    return (await documents.update_many(query, pipeline)).modified_count
