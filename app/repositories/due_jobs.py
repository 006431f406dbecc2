"""Which due jobs a scheduler looks for: the queries on the index of the poll."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate

from pymongo import ASCENDING

from app.models.job import Job
from app.repositories.documents import known
from app.repositories.mongo import Document

POLL = "poll_with_owner"
"""The index of the poll. Its second key is the owner, so that owners are told apart without a read
of their jobs."""

IS_SCHEDULED: Document = {"$type": "date"}
"""The partial filter of the index. A query that does not repeat it cannot use the index."""

COUNTED = 50_000
"""The keys that one count of due jobs examines at most: some tens of milliseconds."""

_MAX_PARTS = 16
"""A query examines one key in so many for its own part. More schedulers share the parts."""
_LAST_CHARACTERS = [f"{n:02x}" for n in range(256)]
"""The end of an id is random, so each of these ends about as many ids as any other."""


@dataclass(frozen=True, slots=True)
class DueJobs:
    """A range of the index of the poll, and the part of the jobs in it that one scheduler reads."""

    since: datetime | None = None
    """Skips index entries of old values that the database has not removed yet."""
    id_ends: tuple[str, ...] | None = None
    """The last two characters of the ids of the part; None means all jobs."""
    owner_ids: tuple[str, ...] | None = None
    """Only the jobs of these owners; None means all."""

    def of_part(self, schedulers: Sequence[str], own: str | None) -> "DueJobs":
        """Return the part of one of these schedulers. The parts of all of them are disjoint."""
        if own not in schedulers or len(schedulers) == 1:
            return self
        parts = min(len(schedulers), _MAX_PARTS)
        part = schedulers.index(own) % parts
        return replace(self, id_ends=tuple(_LAST_CHARACTERS[part::parts]))

    def build_due_query(self, now: datetime) -> Document:
        """The jobs of the part that are due. For all jobs, n of which are due, the server examines
        n + 1 keys."""
        query = known(Job) | self.build_due_range(now)
        if self.owner_ids is not None:
            query |= {"owner_id": {"$in": list(self.owner_ids)}}
        return query if self.id_ends is None else query | {"$expr": self._is_in_part()}

    def build_due_range(self, now: datetime) -> Document:
        """The due jobs of all parts and owners, also those that a newer release wrote."""
        return {"next_run": self._build_range() | {"$lte": now}}

    def build_peek_query(self) -> Document:
        """All jobs of the range, whether they are due or not."""
        return known(Job) | {"next_run": self._build_range()}

    def includes(self, job_id: str) -> bool:
        """Whether the job belongs to the part."""
        return self.id_ends is None or job_id[-2:] in self.id_ends

    def _build_range(self) -> Document:
        return IS_SCHEDULED if self.since is None else IS_SCHEDULED | {"$gte": self.since}

    def _is_in_part(self) -> Document:
        text = {"$convert": {"input": "$_id", "to": "string", "onError": "", "onNull": ""}}
        length = {"$strLenCP": text}
        start = {"$max": [0, {"$subtract": [length, 2]}]}
        return {"$in": [{"$substrCP": [text, start, 2]}, list(self.id_ends or ())]}


ALL = DueJobs()


def build_due_counts(
    now: datetime, *, due: DueJobs, without: Collection[str], most: int
) -> list[Document]:
    """The pipeline that counts the due jobs of each owner, the smallest numbers first: at most
    `most` owners, and none of `without`.

    It counts the jobs of all parts: their keys do not tell the part.
    """
    return [
        {"$match": due.build_due_range(now)},
        {"$sort": {"next_run": ASCENDING}},
        {"$limit": COUNTED},
        {"$group": {"_id": "$owner_id", "count": {"$sum": 1}}},
        {"$match": {"_id": {"$type": "string", "$nin": list(without)}}},
        {"$sort": {"count": ASCENDING, "_id": ASCENDING}},
        {"$limit": most},
    ]


def choose_owners(counts: Sequence[Document], *, most: int) -> tuple[str, ...]:
    """The first of these owners that have `most` due jobs together, but at least one owner."""
    totals = accumulate(count["count"] for count in counts)
    chosen = sum(total <= most for total in totals)
    return tuple(count["_id"] for count in counts[: max(1, chosen)])
