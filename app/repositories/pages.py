"""Pages of a listing. They are bounded in bytes before the database sends them.

A read has two steps. First the database sends the size of each document in the range, and the
document itself if it is small. Then it sends those large documents that fit on the page. So
a page of small documents needs one round trip, and one with large documents two.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from app.loop_turns import wait_for_loop_turn
from app.models.page import PAGE_BYTES
from app.repositories.mongo import Collection, Document, aggregate

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")

_DECODED_AT_ONCE = 20

_FIRST_STEP_BYTES = PAGE_BYTES // 2
"""The most bytes of documents that the first step sends."""


@dataclass(frozen=True, slots=True)
class Range:
    """The documents of a listing from the start of a page on: one range of one index, in its
    order. The hint names the index, because the planner may prefer another one and sort."""

    filter: Document
    sort: Mapping[str, int]
    hint: str


@dataclass(frozen=True, slots=True)
class FoundPage(Generic[_T]):
    """The records of a page in order, and whether others follow."""

    records: list[_T]
    has_more: bool


async def read_page(
    collection: Collection,
    documents: Range,
    read: Callable[[Sequence[Document]], Awaitable[list[_T]]],
    *,
    limit: int,
    without: Sequence[str] = (),
) -> FoundPage[_T]:
    """A page of `limit` records, fewer if their documents are large.

    The database does not send the fields `without`. If `read` leaves a document out, the next ones
    are read instead. One record more than `limit` is read, to know whether others follow.
    """
    records: list[_T] = []
    skip = 0
    while True:
        wanted = limit + 1 - len(records)
        pipeline = build_page_pipeline(documents, skip=skip, limit=wanted, without=without)
        entries = await aggregate(collection, pipeline, hint=documents.hint)
        chosen = choose_entries(entries)
        found = await _load(collection, documents, chosen, without)
        readable = await _read_in_turns(found, read)
        if len(readable) < len(found):
            _log.warning("documents_left_out", count=len(found) - len(readable))
        records += readable
        is_cut = len(chosen) < len(entries)
        if len(records) > limit:
            return FoundPage(records[:limit], has_more=True)
        if is_cut and records:
            return FoundPage(records, has_more=True)
        if len(entries) < wanted and not is_cut:
            return FoundPage(records, has_more=False)
        skip += len(found)


def build_page_pipeline(
    documents: Range, *, skip: int = 0, limit: int, without: Sequence[str] = ()
) -> list[Document]:
    """The first step: an entry for each document, with its `id`, its `size` in bytes and, if it is
    small, the `document`. The small ones have at most `_FIRST_STEP_BYTES` together."""
    is_small = {"$lte": ["$$size", _FIRST_STEP_BYTES // limit]}
    entry = {
        "id": "$_id",
        "size": "$$size",
        "document": {"$cond": [is_small, "$$ROOT", "$$REMOVE"]},
    }
    size = {"$bsonSize": "$$ROOT"}
    return [
        {"$match": documents.filter},
        {"$sort": dict(documents.sort)},
        *([{"$skip": skip}] if skip else []),
        {"$limit": limit},
        *([{"$project": dict.fromkeys(without, False)}] if without else []),
        {"$replaceWith": {"$let": {"vars": {"size": size}, "in": entry}}},
    ]


def choose_entries(entries: Sequence[Document]) -> Sequence[Document]:
    """The first entries, up to the first large document that does not fit on the page."""
    left = PAGE_BYTES - sum(entry["size"] for entry in entries if "document" in entry)
    for position, entry in enumerate(entries):
        if "document" not in entry:
            left -= entry["size"]
            if left < 0 and position > 0:
                return entries[:position]
    return entries


async def _read_in_turns(
    documents: Sequence[Document], read: Callable[[Sequence[Document]], Awaitable[list[_T]]]
) -> list[_T]:
    """Decode a few documents at a time, because a page with 10,000 attempts takes 0.1 s."""
    records: list[_T] = []
    for start in range(0, len(documents), _DECODED_AT_ONCE):
        records += await read(documents[start : start + _DECODED_AT_ONCE])
        await wait_for_loop_turn()
    return records


async def _load(
    collection: Collection,
    documents: Range,
    entries: Sequence[Document],
    without: Sequence[str],
) -> list[Document]:
    """The second step: the documents of the entries, in order. Those that have left the range since
    the first step are left out."""
    found = [entry["document"] for entry in entries if "document" in entry]
    large = [entry["id"] for entry in entries if "document" not in entry]
    if not large:
        return found
    still_in_range = {"$and": [documents.filter, {"_id": {"$in": large}}]}
    fields = dict.fromkeys(without, False) or None
    found += await collection.find(still_in_range, fields, hint="_id_").to_list(None)
    ids: list[Any] = [entry["id"] for entry in entries]
    return sorted(found, key=lambda document: ids.index(document["_id"]))
