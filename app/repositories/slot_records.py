"""What is recorded for slots of schedules: the parts of a read by the index `slot`.

The read does not parse executions, so it also finds those that a newer release wrote.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from app.models.execution import ExecutionKind, ExecutionStatus
from app.repositories.mongo import Document

SLOT_INDEX = "slot"
SLOT_FIELDS = {
    "_id": False,
    **dict.fromkeys(("schedule_id", "scheduled_for", "status", "missed_until"), True),
}

_NOT_COUNTED = frozenset({ExecutionStatus.SKIPPED, ExecutionStatus.MISSED})

Slot = tuple[str, datetime]
"""The id of a schedule, and one of its slots."""


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """What is recorded for a slot."""

    status: str
    missed_until: datetime | None = None

    @property
    def is_counted(self) -> bool:
        """Whether it counts towards `max_runs`."""
        return self.status not in _NOT_COUNTED


def build_slots_query(slots: Collection[Slot]) -> Document:
    """The condition on the records of these slots: one range of the index per slot."""
    by_schedule: dict[str, list[datetime]] = {}
    for schedule_id, scheduled_for in slots:
        by_schedule.setdefault(schedule_id, []).append(scheduled_for)
    conditions = [
        {"schedule_id": schedule_id, "scheduled_for": {"$in": instants}}
        for schedule_id, instants in by_schedule.items()
    ]
    return {"kind": ExecutionKind.SCHEDULED, "$or": conditions}


def read_slot_record(document: Document) -> tuple[Slot, SlotRecord]:
    """The slot and its record. The other fields of a malformed document may have any value."""
    slot = (document["schedule_id"], document["scheduled_for"])
    until = document.get("missed_until")
    missed_until = until if isinstance(until, datetime) else None
    return slot, SlotRecord(str(document.get("status")), missed_until)
