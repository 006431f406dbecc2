"""Migrations: forward steps that bring stored documents up to this release's shapes.

Each step is one update of each older document, atomic and depending on that document alone. It
sets the document's `schema` number in the same write. So several processes may run the steps at
the same time, and if a process ends during a step, the next process completes it.

The server makes most changes by a pipeline. It cannot write JSON as text, so this process computes
the texts and writes each on the condition that the value is still as read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from bson import CodecOptions
from bson.codec_options import DatetimeConversion
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, UpdateOne

from app.errors import UnavailableError
from app.repositories.batches import describe_rejection, is_rejection, write_in_parts
from app.repositories.documents import SCHEMA_VERSION
from app.repositories.free_form import FREE_FORM_SCHEMA, encode_json
from app.repositories.kept_responses import keep_last_responses, measure_responses
from app.repositories.meta import MetaRepository
from app.repositories.mongo import Collection, Database, Document, database_call

_log = structlog.get_logger(__name__)

_PAGE = 500  # documents per write: usually far below the time limit of a database call
_MAX_TRIES = 5  # a try fails if a process of the earlier release edits a document of the page

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""Decodes objects without an interpretation of `$ref` and `$id`, and malformed values as all other
clients do."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a collection's stored shape: `update` is the pipeline that makes it.

    `texts`: the fields whose JSON values become text in the same write. `requires`: documents with
    a lower number, which an earlier step could not migrate, stay as they are.
    """

    number: int
    collection: str
    update: Sequence[Document] = ()
    texts: Sequence[str] = ()
    requires: int = 0

    @property
    def older(self) -> Document:
        """The condition on the documents to migrate. A document without a number is the oldest."""
        if not self.requires:
            return {"schema": {"$not": {"$gte": self.number}}}
        return {"schema": {"$gte": self.requires, "$lt": self.number}}


def _rename(old: str, new: str, *, default: object) -> tuple[Document, ...]:
    """A document that has the new name already keeps its value; one with neither gets `default`."""
    present = {"$ifNull": [f"${old}", {"$ifNull": [f"${new}", {"$literal": default}]}]}
    return ({"$set": {new: present}}, {"$unset": old})


def _to_pairs(headers: str) -> Document:
    """Headers as pairs; headers that are pairs already stay so."""
    is_object = {"$eq": [{"$type": headers}, "object"]}
    return {"$cond": [is_object, {"$objectToArray": headers}, headers]}


def _map_attempts() -> Document:
    """The attempts with the headers of their responses as pairs."""
    response = {
        "$mergeObjects": ["$$one.response", {"headers": _to_pairs("$$one.response.headers")}]
    }
    has_headers = {"$eq": [{"$type": "$$one.response.headers"}, "object"]}
    one = {"$cond": [has_headers, {"$mergeObjects": ["$$one", {"response": response}]}, "$$one"]}
    mapped = {"$map": {"input": "$attempts", "as": "one", "in": one}}
    return {"$cond": [{"$isArray": "$attempts"}, mapped, "$attempts"]}


STEPS = (
    Step(2, "jobs"),  # documents carry their schema number
    Step(2, "users"),
    Step(2, "executions", _rename("held", "waiting", default=False)),
    Step(2, "idempotency_keys", _rename("answer", "response", default=None)),
    Step(
        FREE_FORM_SCHEMA,
        "jobs",
        ({"$set": {"target.headers": _to_pairs("$target.headers")}},),
        texts=("parameters", "target.body"),
    ),
    Step(
        FREE_FORM_SCHEMA,
        "executions",
        ({"$set": {"attempts": _map_attempts()}},),
        texts=("parameters",),
    ),
    Step(4, "jobs", requires=FREE_FORM_SCHEMA),  # jobs have `hops`, without it they have none
    Step(
        4,
        "executions",
        (
            {"$set": {"attempts": keep_last_responses()}},
            {"$set": {"response_bytes": measure_responses()}},
        ),
        requires=FREE_FORM_SCHEMA,
    ),
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
    page = _Page(step, documents)
    migrated = 0
    ids = await _list_ids(documents, after=None)
    while ids:
        migrated += await _migrate(page, ids)
        reached = ids[-1]
        ids = await _list_ids(documents, after=reached)
        if ids and ids[-1] <= reached:  # malformed ids, which the query cannot exclude
            _log.error("document_ids_malformed", collection=step.collection, after=reached)
            break
    if migrated:
        _log.info(
            "documents_migrated", collection=step.collection, schema=step.number, count=migrated
        )


async def _migrate(page: "_Page", ids: Sequence[str]) -> int:
    """Migrate the documents at once, or in halves if a call takes longer than its time limit: what
    it has written by then stays. Returns how many, without those."""
    try:
        return sum(await write_in_parts(ids, page.migrate, page.reject))
    except UnavailableError:
        if len(ids) == 1:
            raise
    middle = len(ids) // 2
    return await _migrate(page, ids[:middle]) + await _migrate(page, ids[middle:])


class _Page:
    """Applies one step to documents of its collection. A document that cannot be migrated is logged
    and keeps its schema number, with which it can still be read."""

    def __init__(self, step: Step, documents: Collection) -> None:
        self._step = step
        self._documents = documents
        self._pipeline = [*step.update, {"$set": {"schema": step.number}}]

    async def migrate(self, ids: Sequence[str]) -> list[int]:
        """How many it has migrated. A second call looks only at those that are still older."""
        older = {"_id": {"$in": ids}} | self._step.older
        migrated = await self._write_texts(older) if self._step.texts else 0
        # What has been written as text is no longer older; what is not JSON stays as it is.
        without_values = dict.fromkeys(self._step.texts)
        return [migrated + await _update(self._documents, older | without_values, self._pipeline)]

    async def reject(self, document_id: str, error: Exception) -> list[int]:
        """Log a document that the database rejects, for example because it becomes too large."""
        if not is_rejection(error):
            raise error
        self._log_not_migrated(document_id, describe_rejection(error))
        return []

    async def _write_texts(self, older: Document) -> int:
        """Migrate the older documents that have values to write as text. Returns how many."""
        migrated = 0
        for _ in range(_MAX_TRIES):
            writes = await self._build_text_writes(older)
            written = await _write(self._documents, list(writes.values()))
            migrated += written
            if written == len(writes):
                return migrated
        for document_id in await self._build_text_writes(older):
            self._log_not_migrated(document_id, "it was never as read")
        return migrated

    @database_call
    async def _build_text_writes(self, older: Document) -> dict[str, UpdateOne]:
        """By id: the write of the texts of a document, if they can be computed."""
        names = self._step.texts
        has_values: Document = {"$or": [{name: {"$ne": None}} for name in names]}
        raw: Collection = self._documents.with_options(codec_options=_RAW)
        writes = {}
        async for document in raw.find(older | has_values, dict.fromkeys(names, True)):
            document_id = document["_id"]
            try:
                values = {name: _find(document, name) for name in names}
                texts = {
                    name: {"$literal": encode_json(_to_json(value))}
                    for name, value in values.items()
                    if value is not None
                }
            except (ValueError, TypeError, BSONError) as error:
                self._log_not_migrated(document_id, type(error).__name__)
                continue
            unchanged = {name: {"$eq": value} for name, value in values.items()}
            writes[document_id] = UpdateOne(
                older | {"_id": document_id} | unchanged, [*self._pipeline, {"$set": texts}]
            )
        return writes

    def _log_not_migrated(self, document_id: str, error: str) -> None:
        _log.error(
            "document_not_migrated",
            collection=self._step.collection,
            document_id=document_id,
            error=error,
        )


def _find(document: Document, name: str) -> object:
    """The value at a dotted name; None if there is none."""
    value: object = document
    for part in name.split("."):
        value = value.get(part) if isinstance(value, RawBSONDocument) else None
    return value


def _to_json(value: object) -> object:
    """Raises TypeError, when it is encoded, for a value that is not JSON."""
    if isinstance(value, RawBSONDocument):
        return {name: _to_json(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_to_json(part) for part in value]
    return value


@database_call
async def _write(documents: Collection, writes: Sequence[UpdateOne]) -> int:
    if not writes:
        return 0
    return (await documents.bulk_write(writes, ordered=False)).matched_count


@database_call
async def _list_ids(documents: Collection, *, after: str | None) -> list[str]:
    query: Document = {"_id": {"$type": "string"} if after is None else {"$gt": after}}
    found = documents.find(query, {"_id": True}).sort("_id", ASCENDING).limit(_PAGE)
    return [document["_id"] for document in await found.to_list(None)]


@database_call
async def _update(documents: Collection, query: Document, pipeline: list[Document]) -> int:
    return (await documents.update_many(query, pipeline)).modified_count
