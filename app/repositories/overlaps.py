"""The `executions` collection as the overlap policies see it: live and waiting executions.

At most one execution of a job is live, executions under `allow_all` not counted. It carries
`live_for`. The others are `waiting`, each at a position of its own, which the field `place` stores.
Unique indexes enforce both rules for all processes, also after a crash.

A method for several jobs makes a bounded number of round trips, whatever the number of jobs.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from app.models.execution import (
    AttemptOutcome,
    Execution,
    ExecutionKind,
    ExecutionStatus,
    Reason,
)
from app.repositories import cancellation
from app.repositories.attempts import end_open_attempts
from app.repositories.documents import known
from app.repositories.fields import read_field
from app.repositories.lease_fence import RAISE_TOKEN
from app.repositories.mongo import ONE_BATCH, Database, Document, aggregate, database_call
from app.repositories.promotions import WAITING
from app.repositories.slot_records import (
    KEY_FIELDS,
    ONE_PER_SLOT,
    SlotKey,
    build_conditions,
    is_record_of,
    key_of,
    read_slot_key,
)

_MAX_TRIES = 3  # a try fails if an execution changes its status between the read and the write


class OverlapRepository:
    """Conditional writes against other executions of a job. May raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._clock = database.clock
        self._executions = database.collection("executions")

    @database_call
    async def list_positions(self, job_ids: Iterable[str]) -> dict[str, set[int]]:
        """The positions that the waiting executions of each job have taken.

        A job without waiting executions has no entry.
        """
        taken = {"job_id": {"$in": list(job_ids)}, "place": {"$gte": 0}}
        by_job = {"_id": "$job_id", "places": {"$push": "$place"}}
        found = await aggregate(
            self._executions, [{"$match": taken}, {"$group": by_job}], hint="place"
        )
        return {
            job_id: {place for place in one["places"] if isinstance(place, int)}
            for one in found
            if (job_id := read_field(one, "_id", str))
        }

    @database_call
    async def cancel_live(self, new_executions: Sequence[Execution]) -> set[str]:
        """Ask the live executions of the jobs to stop; cancel those that are queued immediately.

        There is one new execution for each job, which may wait already. Returns the jobs whose
        live execution continues until its worker stops it, or is newer.
        """
        reason, now = Reason.CANCELLED_BY_OVERLAP, self._clock.now_expression
        running: set[str] = set()
        newer: set[str] = set()
        for _ in range(_MAX_TRIES):
            live, newer = await self._list_older_live(new_executions)
            running = {e["live_for"] for e in live if e.get("status") == ExecutionStatus.RUNNING}
            can_end = [e["_id"] for e in live if e["live_for"] not in running]
            can_be_asked = [
                e["_id"]
                for e in live
                if e["live_for"] in running and e.get("cancel_requested_at") is None
            ]
            ended = await self._update(can_end, cancellation.CAN_END, cancellation.end(reason, now))
            asked = await self._update(
                can_be_asked, cancellation.CAN_BE_ASKED, cancellation.request(reason, now)
            )
            if ended + asked == len(can_end) + len(can_be_asked):
                break
            # One was claimed, or is queued again for its next attempt.
        return running | newer

    @database_call
    async def terminate_live(self, new_executions: Sequence[Execution]) -> set[str]:
        """End the live executions of the jobs without asking their workers, whose later writes
        match nothing. There is one new execution for each job. Returns the jobs whose live
        execution continues, because it is newer."""
        now = self._clock.now_expression
        end = {"outcome": AttemptOutcome.CANCELLED, "error": "terminated"}
        attempts = end_open_attempts({"$literal": end}, now)
        statuses = [cancellation.CAN_END["status"], cancellation.CAN_BE_ASKED["status"]]
        live, newer = await self._list_older_live(new_executions)
        await self._update(
            [e["_id"] for e in live],
            {"status": {"$in": statuses}},
            [
                {"$set": {"attempts": attempts, "lease_token": RAISE_TOKEN}},
                *cancellation.end(Reason.TERMINATED_BY_OVERLAP, now),
            ],
        )
        return newer

    @database_call
    async def list_waiting_slots(
        self, job_ids: Iterable[str], position: int
    ) -> dict[str, datetime]:
        """By job: the slot of the waiting execution at this position."""
        return _read_slots(await self._list_waiting(list(job_ids), position))

    @database_call
    async def cancel_older_waiting(
        self, new_executions: Sequence[Execution], position: int
    ) -> dict[str, datetime]:
        """Cancel the older executions at this position, so that the new ones can take it.

        There is one new execution for each job. Returns by job the slot of the execution that was
        found there. One with a later slot keeps the position.
        """
        by_job = {e.job_id: e for e in new_executions}
        found = await self._list_waiting(list(by_job), position)
        older = [
            document["_id"]
            for document in found
            if not _is_later(document, by_job[document["job_id"]])
            and not is_record_of(document, by_job[document["job_id"]])
        ]
        reason, now = Reason.REPLACED_BY_NEWER, self._clock.now_expression
        await self._update(older, WAITING, cancellation.end(reason, now))
        return _read_slots(found)

    async def _list_waiting(self, job_ids: Sequence[str], position: int) -> list[Document]:
        """The slots of the waiting executions of these jobs at this position."""
        if not job_ids:
            return []
        query = known(Execution) | WAITING | {"job_id": {"$in": job_ids}, "place": position}
        fields = dict.fromkeys((*KEY_FIELDS, "job_id"), True)
        found = self._executions.find(query, fields, batch_size=ONE_BATCH)
        return [one for one in await found.to_list(None) if read_field(one, "job_id", str)]

    async def _list_older_live(
        self, new_executions: Sequence[Execution]
    ) -> tuple[list[Document], set[str]]:
        """The live executions of the jobs that the new ones may end, and the jobs whose live one
        is newer.

        This process may have been frozen since it planned the new executions. So it reads the slot
        records after the live executions: a live execution that was read before the slot of the new
        one had a record is not newer than that record. Nor is one that was read while the new one
        still waited.
        """
        by_job = {e.job_id: e for e in new_executions}
        live = await self._list_other_live(by_job)
        newer = {e["live_for"] for e in live if _is_newer(e, by_job[e["live_for"]])}
        slots = {
            key_of(new): new
            for job_id in {e["live_for"] for e in live} - newer
            if (new := by_job[job_id]).kind in ONE_PER_SLOT
        }
        newer |= {slots[key].job_id for key in await self._list_recorded(slots)}
        return [e for e in live if e["live_for"] not in newer], newer

    async def _list_recorded(self, slots: Mapping[SlotKey, Execution]) -> set[SlotKey]:
        """Those of these slots that have a record other than the new execution while it waits."""
        if not slots:
            return set()
        waiting = {new.id for new in slots.values()}
        fields = dict.fromkeys((*KEY_FIELDS, "waiting"), True)
        found = self._executions.find(
            {"$or": build_conditions(slots)}, fields, batch_size=ONE_BATCH
        )
        recorded = {
            read_slot_key(document)
            for document in await found.to_list(None)
            if not (document["_id"] in waiting and document.get("waiting") is True)
        }
        return recorded & set(slots)

    async def _list_other_live(self, by_job: Mapping[str, Execution]) -> list[Document]:
        """The live executions of the jobs, but for those that are the new ones or their records."""
        query = known(Execution) | {"live_for": {"$in": list(by_job)}}
        fields = (*KEY_FIELDS, "live_for", "status", "cancel_requested_at", "created_at")
        found = self._executions.find(query, dict.fromkeys(fields, True), batch_size=ONE_BATCH)
        return [
            document
            for document in await found.to_list(None)
            if (job_id := read_field(document, "live_for", str))
            and not is_record_of(document, by_job[job_id])
        ]

    async def _update(self, ids: Sequence[str], condition: Document, stages: list[Document]) -> int:
        """Update those of these executions that meet the condition. Returns their number."""
        if not ids:
            return 0
        query = known(Execution) | condition | {"_id": {"$in": ids}}
        return (await self._executions.update_many(query, stages)).matched_count


def _is_newer(document: Document, execution: Execution) -> bool:
    """Whether the live execution is newer than the new one, which then must not end it.

    A user may request the execution of an old slot, so among requests the later one is newer.
    """
    if execution.kind is ExecutionKind.SCHEDULED:
        return _is_later(document, execution)
    created_at = document.get("created_at")
    return isinstance(created_at, datetime) and created_at > execution.created_at


def _is_later(document: Document, execution: Execution) -> bool:
    """Whether the document has a later slot. A malformed one has no slot."""
    slot = document.get("scheduled_for")
    return isinstance(slot, datetime) and slot > execution.scheduled_for


def _read_slots(documents: Sequence[Document]) -> dict[str, datetime]:
    """By job: the slot of its document."""
    return {
        document["job_id"]: slot
        for document in documents
        if isinstance(slot := document.get("scheduled_for"), datetime)
    }
