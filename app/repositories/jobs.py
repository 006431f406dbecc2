"""The `jobs` collection: one document per job, with its schedules embedded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pymongo import ASCENDING, DESCENDING, timeout
from pymongo.errors import DuplicateKeyError

from app.errors import NotFoundError
from app.models.execution import ExecutionStatus
from app.models.job import Job, differs_in_slots
from app.repositories.advances import Advance, split_by_size
from app.repositories.documents import known, read_key, to_document
from app.repositories.due_jobs import (
    ALL,
    IS_SCHEDULED,
    POLL,
    DueJobs,
    DueTurns,
    NextDue,
    build_owners_of_due_jobs,
    interleave_job_ids,
)
from app.repositories.job_listings import (
    LARGE_FIELDS,
    NEWEST_FIRST,
    JobFilter,
    JobPageStart,
    listing_of,
    owned_by,
)
from app.repositories.mongo import (
    LISTING_LIMIT,
    Database,
    Document,
    aggregate,
    database_call,
    pick,
)
from app.repositories.pages import FoundPage, read_page
from app.repositories.readers import JobReader, UnreadJob

_FOR_FIRING = dict.fromkeys(("description", *LARGE_FIELDS), False)
"""Leaves out the fields that may be large and that firing does not need."""

_NEVER_EDITED = frozenset({"_id", "owner_id", "created_at", "last_run", "last_status"})

LAST_RUNS_BATCH = 500
"""The most jobs in one statement: `pick` searches the list of ids for each document."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """A job's `last_run` and `last_status`: the slot of an execution that ended, and how."""

    job_id: str
    owner_id: str
    scheduled_for: datetime
    status: ExecutionStatus


@dataclass(frozen=True, slots=True)
class FoundJobs:
    """Jobs by id, and the ids of those that exist but that this process cannot interpret: a newer
    release wrote them, or they are malformed."""

    jobs: Mapping[str, Job]
    newer: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()


class JobRepository:
    """Reads and conditional writes of jobs. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs = database.collection("jobs")
        self._reader = JobReader(database)

    async def now(self) -> datetime:
        """The database's present instant."""
        return await self._database.now()

    @database_call
    async def insert(self, job: Job) -> bool:
        """Store a new job; False if there is one with its id."""
        try:
            await self._jobs.insert_one(to_document(job))
        except DuplicateKeyError:
            return False
        return True

    @database_call
    async def get(self, job_id: str, *, owner_id: str | None) -> Job:
        """One job. With `owner_id` None it may belong to any owner. Raises NotFoundError."""
        query: Document = {"_id": job_id} | owned_by(owner_id)
        document = await self._jobs.find_one(query)
        if document is None:
            raise NotFoundError.of("job")
        return await self._reader.read_one(document)

    @database_call
    async def get_by_schedule(self, schedule_id: str, *, owner_id: str | None) -> Job:
        """The job that has this schedule. Raises NotFoundError."""
        query: Document = {"schedules.id": schedule_id} | owned_by(owner_id)
        document = await self._jobs.find_one(query)
        if document is None:
            raise NotFoundError.of("schedule")
        return await self._reader.read_one(document)

    @database_call
    async def list_by_ids(self, job_ids: Sequence[str]) -> FoundJobs:
        """Those of these jobs that still exist."""
        documents = await self._jobs.find({"_id": {"$in": list(job_ids)}}).to_list(None)
        found = await self._reader.read(documents)
        return FoundJobs(
            {job.id: job for job in found.records},
            newer=frozenset(document["_id"] for document in found.newer),
            unreadable=frozenset(one.document["_id"] for one in found.unreadable),
        )

    @database_call
    async def list_jobs(
        self,
        wanted: JobFilter,
        *,
        limit: int,
        start: JobPageStart = NEWEST_FIRST,
        partial: bool = False,
    ) -> FoundPage[Job]:
        """The jobs in the order of `start`, just after its position. At most `limit`, and fewer if
        they are large.

        Partial jobs are read without their `LARGE_FIELDS`. Raises UnavailableError after two
        seconds.
        """

        async def read(documents: Sequence[Document]) -> list[Job]:
            return (await self._reader.read(documents)).records

        with timeout(LISTING_LIMIT.total_seconds()):
            return await read_page(
                self._jobs,
                listing_of(wanted, start),
                read,
                limit=limit,
                without=LARGE_FIELDS if partial else (),
            )

    @database_call
    async def replace(self, job: Job, *, expected: Job) -> bool:
        """Store an edit, if neither a user nor a firing has changed the job since `expected`.

        An edit that changes when the job is due, or what becomes of late slots, is also rejected
        while a slot is due: that slot precedes the edit and must be fired first.
        """
        document = to_document(job)
        changes = {key: document[key] for key in document.keys() - _NEVER_EDITED}
        query = _build_unchanged_condition(expected)
        if differs_in_slots(expected, job):
            query |= self._build_nothing_due_condition()
        result = await self._jobs.update_one(query, {"$set": changes})
        return result.matched_count == 1

    @database_call
    async def delete(self, expected: Job) -> bool:
        """Delete the job, if neither a user nor a firing has changed it since `expected`, and no
        slot of it is due."""
        query = _build_unchanged_condition(expected) | self._build_nothing_due_condition()
        return (await self._jobs.delete_one(query)).deleted_count == 1

    @database_call
    async def get_unread(self, job_id: str, *, owner_id: str | None) -> UnreadJob:
        """A job that may be malformed, without its definition. Raises NotFoundError."""
        query: Document = known(Job) | {"_id": job_id} | owned_by(owner_id)
        document = await self._jobs.find_one(query, {"owner_id": True, "revision": True})
        if document is None:
            raise NotFoundError.of("job")
        return UnreadJob.of(document)

    @database_call
    async def delete_unread(self, job: UnreadJob) -> None:
        """Delete a job that cannot be read; slots that are due are not fired."""
        await self._jobs.delete_one(known(Job) | {"_id": job.id})

    def _build_nothing_due_condition(self) -> Document:
        is_later = {"$gt": ["$next_run", self._database.clock.now_expression]}
        return {"$expr": {"$or": [{"$eq": ["$next_run", None]}, is_later]}}

    @database_call
    async def peek(self, due: DueJobs = ALL, *, limit: int = 1) -> NextDue:
        """The first keys of the index of the poll among these jobs, at most `limit`."""
        found = self._jobs.find(
            due.build_peek_query(),
            {"next_run": True, "now": self._database.clock.now_expression},
        )
        documents = await found.sort("next_run", ASCENDING).limit(limit).to_list(None)
        now = documents[0]["now"] if documents else await self._database.now()
        keys = ((read_key(document, "next_run"), str(document["_id"])) for document in documents)
        return NextDue(now, [(slot, id_) for slot, id_ in keys if slot is not None])

    @database_call
    async def find_earliest_next_run(self) -> datetime | None:
        """The first `next_run` of all jobs, also of those that a newer release wrote."""
        document = await self._jobs.find_one(
            {"next_run": IS_SCHEDULED},
            {"next_run": True, "now": self._database.clock.now_expression},
            sort=[("next_run", ASCENDING)],
        )
        return None if document is None else read_key(document, "next_run")

    @database_call
    async def list_due(
        self, now: datetime, *, limit: int, due: DueJobs = ALL, newest_first: bool = False
    ) -> list[Job]:
        """Those of these jobs whose `next_run` is at or before the database's `now`, the most
        overdue first.

        They are read for firing: without parameters, description, headers and body. Each job comes
        once: the index returns it again if another process advances it during the read.
        """
        direction = DESCENDING if newest_first else ASCENDING
        found = self._jobs.find(due.build_due_query(now), _FOR_FIRING).sort("next_run", direction)
        documents = await found.limit(limit).batch_size(limit).to_list(None)
        jobs: dict[str, Job] = {}
        for job in (await self._reader.read(documents)).records:
            jobs.setdefault(job.id, job)
        return list(jobs.values())

    @database_call
    async def list_due_in_turns(
        self, now: datetime, *, limit: int, due: DueJobs, after: str
    ) -> DueTurns:
        """Due jobs for firing, one of each owner in turn, beginning with the owner after `after`.
        Knows the owners of the `MAX_KEYS` most overdue jobs, and of those that are due last."""
        pipeline = build_owners_of_due_jobs(now, due=due, after=after, limit=limit)
        owners = await aggregate(self._jobs, pipeline, hint=POLL)
        total = sum(owner["total"] for owner in owners)
        if total >= due.keys_of_full_read:
            pipeline = build_owners_of_due_jobs(
                now, due=due, after=after, limit=limit, newest_first=True
            )
            known_owners = [owner["_id"] for owner in owners]
            newest = await aggregate(self._jobs, pipeline, hint=POLL)
            owners = [one for one in newest if one["_id"] not in known_owners] + owners
        ids, last_owner = interleave_job_ids(owners, limit=limit)
        query = due.build_due_query(now) | {"_id": {"$in": ids}}
        documents = await self._jobs.find(query, _FOR_FIRING).hint("_id_").to_list(None)
        jobs = (await self._reader.read(documents)).records
        jobs.sort(key=lambda job: job.next_run or now)
        return DueTurns(jobs, last_owner, are_all=total <= len(ids) and len(owners) < limit)

    @database_call
    async def advance(self, advances: Sequence[tuple[Job, Job]]) -> int:
        """For each (seen, advanced) store the `next_run` and schedules of `advanced`, if the job is
        still as `seen`.

        Compare-and-set on `revision` and `next_run`, few writes for the whole batch. Returns how
        many it stored. A lost race is normal: another process fired or edited that job.
        """
        chunks = split_by_size(advances)
        return sum([await self._advance(chunk) for chunk in chunks])

    async def _advance(self, advances: Sequence[Advance]) -> int:
        ids = [one.seen.id for one in advances]
        unchanged = [
            {"$eq": ["$revision", pick(ids, [one.seen.revision for one in advances])]},
            {"$eq": ["$next_run", pick(ids, [one.seen.next_run for one in advances])]},
        ]
        changes = {
            "next_run": pick(ids, [one.next_run for one in advances]),
            "schedules": pick(ids, [one.schedules for one in advances]),
        }
        result = await self._jobs.update_many(
            known(Job) | {"_id": {"$in": ids}, "$expr": {"$and": unchanged}}, [{"$set": changes}]
        )
        return result.matched_count

    @database_call
    async def note_last_runs(self, last_runs: Sequence[LastRun]) -> None:
        """Store `last_run` and `last_status` of these jobs, at most `LAST_RUNS_BATCH`, each job
        once. A newer slot that is stored stays."""
        ids = [last.job_id for last in last_runs]
        slots = pick(ids, [last.scheduled_for for last in last_runs])
        statuses = pick(ids, [last.status for last in last_runs])
        await self._jobs.update_many(
            known(Job) | {"_id": {"$in": ids}, "$expr": {"$lte": ["$last_run", slots]}},
            [{"$set": {"last_run": slots, "last_status": statuses}}],
        )


def _build_unchanged_condition(seen: Job) -> Document:
    unchanged = {"_id": seen.id, "revision": seen.revision, "next_run": seen.next_run}
    return known(Job) | unchanged
