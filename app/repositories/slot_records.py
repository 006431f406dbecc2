"""The records of slots: their keys, the queries by many keys, and what firing reads of them.

The reads do not parse executions, so they also find those that a newer release wrote.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo import DESCENDING

from app.models.execution import Execution, ExecutionKind, ExecutionStatus
from app.repositories.fields import read_field
from app.repositories.mongo import Document

ONE_PER_SLOT = frozenset({ExecutionKind.SCHEDULED, ExecutionKind.BACKFILL})
"""The kinds of which a slot has one record."""

KEY_FIELDS = ("kind", "backfill_id", "schedule_id", "scheduled_for")
RECORD_FIELDS = {"_id": False, **dict.fromkeys((*KEY_FIELDS, "status", "missed_until"), True)}

_NOT_COUNTED = frozenset({ExecutionStatus.SKIPPED, ExecutionStatus.MISSED})

_NEVER = datetime.max.replace(tzinfo=UTC)

SlotKey = tuple[str, str | None, str | None, datetime]
"""The values of `KEY_FIELDS`, which are unique per record."""


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """What is recorded for a slot."""

    status: str
    missed_until: datetime | None = None

    @property
    def is_counted(self) -> bool:
        """Whether it counts towards `max_runs`."""
        return self.status not in _NOT_COUNTED


def key_of(execution: Execution) -> SlotKey:
    """The key of the execution. It is unique only for the kinds in `ONE_PER_SLOT`."""
    backfill_id, schedule_id = execution.backfill_id, execution.schedule_id
    return (str(execution.kind), backfill_id, schedule_id, execution.scheduled_for)


def read_slot_record(document: Document) -> tuple[SlotKey, SlotRecord]:
    """The key and the record of a stored execution. A malformed `missed_until` counts as absent."""
    missed_until = read_field(document, "missed_until", datetime)
    return read_slot_key(document), SlotRecord(str(document.get("status")), missed_until)


def read_slot_key(document: Document) -> SlotKey:
    """The key of a stored execution.

    A malformed document has a key that no execution has.
    """
    return (
        str(document.get("kind")),
        read_field(document, "backfill_id", str),
        read_field(document, "schedule_id", str),
        read_field(document, "scheduled_for", datetime) or _NEVER,
    )


def read_last_slot(document: Document) -> tuple[str, datetime] | None:
    """The schedule of a stored execution, and the last slot that it decides on; None if it is
    malformed."""
    (_, _, schedule_id, slot), record = read_slot_record(document)
    last = record.missed_until or slot
    return (schedule_id, last) if schedule_id and last is not _NEVER else None


def build_newest_record_stages(schedule_id: str) -> list[Document]:
    """The stages of a pipeline that find the record of the schedule's last slot, by one key."""
    of_schedule = {"kind": ExecutionKind.SCHEDULED, "schedule_id": schedule_id}
    return [
        {"$match": of_schedule},
        {"$sort": {"scheduled_for": DESCENDING}},
        {"$limit": 1},
        {"$project": RECORD_FIELDS},
    ]


def is_record_of(document: Document, execution: Execution) -> bool:
    """Whether the document is this execution or the record of its slot."""
    if document["_id"] == execution.id:
        return True
    return execution.kind in ONE_PER_SLOT and read_slot_key(document) == key_of(execution)


def build_conditions(keys: Iterable[SlotKey]) -> list[Document]:
    """Conditions of which each record with one of these keys meets one.

    Each condition costs the server a plan. So one condition has either all slots of a schedule or
    all schedules with the same instant, whichever gives fewer conditions.
    """
    by_schedule: dict[tuple[str, str | None, str | None], list[datetime]] = {}
    by_instant: dict[tuple[str, str | None, datetime], list[str | None]] = {}
    for kind, backfill_id, schedule_id, instant in keys:
        by_schedule.setdefault((kind, backfill_id, schedule_id), []).append(instant)
        by_instant.setdefault((kind, backfill_id, instant), []).append(schedule_id)
    if len(by_schedule) <= len(by_instant):
        return [
            _of_backfill(backfill_id)
            | {"kind": kind, "schedule_id": schedule_id, "scheduled_for": {"$in": instants}}
            for (kind, backfill_id, schedule_id), instants in by_schedule.items()
        ]
    return [
        _of_backfill(backfill_id)
        | {"kind": kind, "schedule_id": {"$in": schedule_ids}, "scheduled_for": instant}
        for (kind, backfill_id, instant), schedule_ids in by_instant.items()
    ]


def _of_backfill(backfill_id: str | None) -> Document:
    return {} if backfill_id is None else {"backfill_id": backfill_id}
