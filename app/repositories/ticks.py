"""The document `scheduling` of the collection `meta`: ticks, gaps and live schedulers.

A tick states that a process schedules now. All of it is one document, so that a tick and the gap
that it ends are one atomic write.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ReturnDocument, timeout
from pymongo.errors import DuplicateKeyError

from app.clock import count_milliseconds
from app.models.coverage import Gap
from app.repositories.mongo import Database, Document, database_call

AHEAD = timedelta(seconds=4)
"""A tick covers the slots up to this long after it. It is more than the time between two ticks."""

TOLERANCE = timedelta(seconds=10)
"""A slot is on time if a process schedules at most this long after it."""

_ID = "scheduling"
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""The start of the first gap. No trigger has an earlier slot that is due."""
_LEAVE_LIMIT = timedelta(seconds=1)
_SCHEDULER_LIFETIME = count_milliseconds(timedelta(seconds=6))
"""A scheduler ticks every two seconds, and one that fires a long batch at least every four."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The stored state just after a tick."""

    at: datetime
    """The database's present instant at the tick."""
    covered_until: datetime
    last_gap_until: datetime | None
    """Identifies the stored list of gaps: each gap ends later than the one before."""
    gaps: tuple[Gap, ...] | None
    """None if `last_gap_until` is what the caller knew."""
    schedulers: tuple[str, ...]


class TickRepository:
    """Writes ticks and reads gaps. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._meta = database.collection("meta")

    @database_call
    async def tick(self, *, scheduler: str | None, known_gap_until: datetime | None) -> Tick:
        """Cover the slots of the next four seconds. If the last tick of any process was too long
        ago, store the time since then as a gap.

        `scheduler` is the name of a process that also looks for due jobs.
        """
        try:
            document = await self._write(scheduler, known_gap_until)
        except DuplicateKeyError:  # another process has inserted the document meanwhile
            document = await self._write(scheduler, known_gap_until)
        gaps = document.get("gaps")
        return Tick(
            at=document["ticked_at"],
            covered_until=document["covered_until"],
            last_gap_until=document["last_gap_until"],
            gaps=None if gaps is None else tuple(Gap(**gap) for gap in gaps),
            schedulers=tuple(sorted(one["id"] for one in document["schedulers"])),
        )

    async def _write(self, scheduler: str | None, known_gap_until: datetime | None) -> Document:
        is_known = {"$eq": ["$last_gap_until", {"$literal": known_gap_until}]}
        fields: Document = dict.fromkeys(
            ("ticked_at", "covered_until", "last_gap_until", "schedulers"), True
        )
        document: Document = await self._meta.find_one_and_update(
            {"_id": _ID},
            [{"$set": self._build_changes(scheduler)}],
            fields | {"gaps": {"$cond": [is_known, "$$REMOVE", "$gaps"]}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return document

    def _build_changes(self, scheduler: str | None) -> Document:
        now = self._database.clock.now_expression
        covered_until = {"$ifNull": ["$covered_until", BEGINNING]}
        late_until = {"$subtract": [now, count_milliseconds(TOLERANCE) + 1]}
        gaps = {"$ifNull": ["$gaps", []]}
        gap = {"after": covered_until, "until": late_until, "found_at": now}
        nobody_scheduled = {"$gt": [late_until, covered_until]}
        ahead = {"$add": [now, count_milliseconds(AHEAD)]}
        last_gap_until = {"$ifNull": ["$last_gap_until", None]}
        return {
            "ticked_at": now,
            "covered_until": {"$max": [covered_until, ahead]},
            "gaps": {"$cond": [nobody_scheduled, {"$concatArrays": [gaps, [gap]]}, gaps]},
            "last_gap_until": {"$cond": [nobody_scheduled, late_until, last_gap_until]},
            "schedulers": _build_schedulers(scheduler, now),
        }

    @database_call
    async def leave(self, scheduler: str) -> None:
        """Remove a scheduler that stops from the live ones. Raises UnavailableError after one
        second, because a stop must not wait long for it."""
        change = {"$pull": {"schedulers": {"id": scheduler}}}
        with timeout(_LEAVE_LIMIT.total_seconds()):
            await self._meta.update_one({"_id": _ID}, change)

    @database_call
    async def prune_gaps(self, before: datetime) -> None:
        """Delete the gaps that ended before an instant."""
        await self._meta.update_one({"_id": _ID}, {"$pull": {"gaps": {"until": {"$lt": before}}}})


def _build_schedulers(scheduler: str | None, now: Any) -> Document:
    """The expression of the live schedulers: those that ticked recently, and this one."""
    name = {"$literal": scheduler}
    age = {"$abs": {"$subtract": [now, "$$this.seen_at"]}}
    is_live = {"$lt": [age, _SCHEDULER_LIFETIME]}
    others: Document = {
        "$filter": {
            "input": {"$ifNull": ["$schedulers", []]},
            "cond": {"$and": [is_live, {"$ne": ["$$this.id", name]}]},
        }
    }
    if scheduler is None:
        return others
    return {"$concatArrays": [others, [{"id": name, "seen_at": now}]]}
