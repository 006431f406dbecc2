"""The key of a slot's record: the fields that are unique per record, and queries by many keys."""

from collections.abc import Iterable
from datetime import UTC, datetime

from app.models.execution import Execution, ExecutionKind
from app.repositories.mongo import Document

ONE_PER_SLOT = frozenset({ExecutionKind.SCHEDULED, ExecutionKind.BACKFILL})
"""The kinds of which a slot has one record."""

KEY_FIELDS = ("kind", "backfill_id", "schedule_id", "scheduled_for")

_NEVER = datetime.max.replace(tzinfo=UTC)

SlotKey = tuple[str, str | None, str | None, datetime]
"""The values of `KEY_FIELDS`, which are unique per record."""


def key_of(execution: Execution) -> SlotKey | None:
    """The key of the execution, or None if other executions may belong to its slot."""
    if execution.kind not in ONE_PER_SLOT:  # a retry may share its slot with others
        return None
    backfill_id, schedule_id = execution.backfill_id, execution.schedule_id
    return (str(execution.kind), backfill_id, schedule_id, execution.scheduled_for)


def read_slot_key(document: Document) -> SlotKey:
    """The key of a stored execution of a kind in `ONE_PER_SLOT`.

    A malformed document has a key that no execution has.
    """
    kind, backfill_id, schedule_id, instant = map(document.get, KEY_FIELDS)
    return (str(kind), backfill_id, schedule_id, instant or _NEVER)


def is_record_of(document: Document, execution: Execution) -> bool:
    """Whether the document is this execution or the record of its slot."""
    return bool(document["_id"] == execution.id or read_slot_key(document) == key_of(execution))


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
