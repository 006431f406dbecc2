"""Reads every write on jobs and executions from the change stream of the database."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import Timestamp
from pymongo.database import Database

Document = dict[str, Any]

_END_MARKS = "end_marks_of_the_checker"
_TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Change:
    """One write on one document."""

    collection: str
    id: str
    at: datetime
    operation: str
    """`insert`, `update`, `replace` or `delete`."""
    fields: Document
    """The fields that were set; for an insert the whole document."""
    removed: tuple[str, ...] = ()
    truncated: tuple[tuple[str, int], ...] = ()
    """The arrays that were cut, each with its new length."""


def read_changes(database: Database[Document], *, since: Timestamp) -> list[Change]:
    """Return every change from the operation time `since` until now, in the database's order.

    Inserts a mark and reads up to it, because a stream that returns nothing for a while may have
    more changes. Raises TimeoutError if the mark does not arrive, and pymongo's OperationFailure if
    the oplog no longer contains `since`.
    """
    watched = [{"$match": {"ns.coll": {"$in": ["jobs", "executions", _END_MARKS]}}}]
    mark = database[_END_MARKS].insert_one({}).inserted_id
    changes: list[Change] = []
    ends_at = time.monotonic() + _TIMEOUT_SECONDS
    with database.watch(
        watched, start_at_operation_time=since, max_await_time_ms=500, batch_size=5_000
    ) as stream:
        while time.monotonic() < ends_at:
            event = stream.try_next()
            if event is None:
                continue
            if event["ns"]["coll"] != _END_MARKS:
                changes.append(_parse_change(event))
            elif event["documentKey"]["_id"] == mark:
                return changes
    raise TimeoutError(f"The change stream did not reach its end within {_TIMEOUT_SECONDS} s.")


def _parse_change(event: Any) -> Change:
    update = event.get("updateDescription", {})
    return Change(
        collection=event["ns"]["coll"],
        id=event["documentKey"]["_id"],
        at=event["wallTime"],
        operation=event["operationType"],
        fields=update.get("updatedFields") or event.get("fullDocument") or {},
        removed=tuple(update.get("removedFields", ())),
        truncated=tuple(
            (cut["field"], cut["newSize"]) for cut in update.get("truncatedArrays") or ()
        ),
    )
