"""The identity of a slot's record, and the query that finds the records of many slots."""

from collections.abc import Iterable
from datetime import datetime

from app.models.execution import Execution, ExecutionKind
from app.repositories.mongo import Document

ONE_PER_SLOT = frozenset({ExecutionKind.SCHEDULED, ExecutionKind.BACKFILL})
"""The kinds of which a slot has one record."""

SLOT_FIELDS = ("kind", "backfill_id", "schedule_id", "scheduled_for")

Slot = tuple[str, str | None, str | None, datetime]
"""The values of `SLOT_FIELDS`, which are unique per record."""


def slot_of(execution: Execution) -> Slot | None:
    """The slot of which this execution is the only record, or None for other kinds."""
    if execution.kind not in ONE_PER_SLOT:  # a retry may share its slot with others
        return None
    backfill_id, schedule_id = execution.backfill_id, execution.schedule_id
    return (str(execution.kind), backfill_id, schedule_id, execution.scheduled_for)


def read_slot(document: Document) -> Slot:
    """The slot of a stored execution of a kind in `ONE_PER_SLOT`."""
    return (
        document["kind"],
        document.get("backfill_id"),
        document.get("schedule_id"),
        document["scheduled_for"],
    )


def is_record_of(document: Document, execution: Execution) -> bool:
    """Whether the document is this execution or the record of its slot."""
    return bool(document["_id"] == execution.id or read_slot(document) == slot_of(execution))


def build_slot_conditions(slots: Iterable[Slot]) -> list[Document]:
    """The conditions on the records of the slots, of which a record meets one.

    Each condition costs the server a plan. So one condition has either all slots of a schedule or
    all schedules with the same instant, whichever gives fewer conditions.
    """
    by_schedule: dict[tuple[str, str | None, str | None], list[datetime]] = {}
    by_instant: dict[tuple[str, str | None, datetime], list[str | None]] = {}
    for kind, backfill_id, schedule_id, instant in slots:
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
