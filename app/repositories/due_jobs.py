"""Which due jobs a scheduler looks for: the queries on the index of the poll."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, islice, zip_longest
from typing import Any

from pymongo import ASCENDING, DESCENDING

from app.models.job import Job
from app.repositories.documents import known
from app.repositories.mongo import Document

POLL = "poll_by_owner_and_id"
"""The index of the poll. Its other keys tell the owners and the parts apart without a read of the
jobs."""

IS_SCHEDULED: Document = {"$type": "date"}
"""The partial filter of the index. A query that does not repeat it cannot use the index."""

MAX_KEYS = 20_000
"""The most keys that are examined to find the due jobs of all owners: some tens of milliseconds."""

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

    def of_part(self, schedulers: Sequence[str], own: str | None) -> "DueJobs":
        """Return the part of one of these schedulers. The parts of all of them are disjoint."""
        if own not in schedulers or len(schedulers) == 1:
            return self
        parts = min(len(schedulers), _MAX_PARTS)
        part = schedulers.index(own) % parts
        return replace(self, id_ends=tuple(_LAST_CHARACTERS[part::parts]))

    @property
    def keys_of_full_read(self) -> int:
        """If a read of at most `MAX_KEYS` keys finds so many of the part, more keys may follow. The
        part has about its share of the keys, so this is a tenth less."""
        ends = len(_LAST_CHARACTERS) if self.id_ends is None else len(self.id_ends)
        return MAX_KEYS * ends // len(_LAST_CHARACTERS) * 9 // 10

    def build_due_query(self, now: datetime) -> Document:
        """The jobs of the part that are due. For all jobs, n of which are due, the server examines
        n + 1 keys."""
        return known(Job) | self.build_due_range(now) | self.build_part_query()

    def build_due_range(self, now: datetime) -> Document:
        """The due jobs of all parts, also those that a newer release wrote."""
        return {"next_run": self._build_range() | {"$lte": now}}

    def build_part_query(self) -> Document:
        """The jobs of the part."""
        return {} if self.id_ends is None else {"$expr": self._is_in_part()}

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


@dataclass(frozen=True, slots=True)
class NextDue:
    """The database's now, and the first keys of the poll: each `next_run` and its job."""

    now: datetime
    first: Sequence[tuple[datetime, str]]

    @property
    def next_run(self) -> datetime | None:
        """The earliest `next_run`."""
        return self.first[0][0] if self.first else None


@dataclass(frozen=True, slots=True)
class DueTurns:
    """Due jobs of all owners, and where the next turns begin."""

    jobs: list[Job]
    """The most overdue first."""
    last_owner: str
    """The owner whose turn was the last."""
    are_all: bool
    """Whether no other job is due."""


def build_owners_of_due_jobs(
    now: datetime, *, due: DueJobs, after: str, limit: int, newest_first: bool = False
) -> list[Document]:
    """The pipeline that lists at most `limit` owners of due jobs, those with an id greater than
    `after` first, and of each the ids of its `limit` most overdue jobs.

    It reads keys of the index only: the `MAX_KEYS` most overdue ones, or with `newest_first` those
    that have become due last.
    """
    is_before = {"$lte": ["$_id", {"$literal": after}]}
    return [
        {"$match": due.build_due_range(now)},
        {"$sort": {"next_run": DESCENDING if newest_first else ASCENDING}},
        {"$limit": MAX_KEYS},
        {"$match": due.build_part_query()},  # before the limit it would read the documents
        {
            "$group": {
                "_id": "$owner_id",
                "ids": {"$firstN": {"input": "$_id", "n": limit}},
                "total": {"$sum": 1},
            }
        },
        {"$set": {"is_before": is_before}},
        {"$sort": {"is_before": ASCENDING, "_id": ASCENDING}},
        {"$limit": limit},
    ]


def interleave_job_ids(owners: Sequence[Document], *, limit: int) -> tuple[list[Any], str]:
    """At most `limit` job ids: the first of each owner, then the second of each, and so on. Also
    returns the owner whose turn was the last."""
    turns = chain.from_iterable(
        zip_longest(*([(owner["_id"], id_) for id_ in owner["ids"]] for owner in owners))
    )
    taken = list(islice(filter(None, turns), limit))
    return [id_ for _, id_ in taken], str(taken[-1][0]) if taken else ""
