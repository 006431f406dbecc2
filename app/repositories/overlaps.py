"""The `executions` collection as the overlap policies see it: live and waiting executions.

Of a job's executions that do not run under `allow_all` one is live: it carries `live_for`. The
others are `waiting`, each at a `place` of its own. Unique indexes hold both rules in the whole
cluster, whatever crashes.
"""

from collections.abc import Sequence

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from app.models.execution import AttemptOutcome, Execution, ExecutionStatus, Reason
from app.repositories import cancellation
from app.repositories.documents import known
from app.repositories.executions import ONE_PER_SLOT, slot_of
from app.repositories.mongo import Database, Document, database_call

_MOST_TRIES = 3  # each fails if an attempt ends meanwhile and another one follows


class OverlapRepository:
    """Conditional writes against other executions of a job. May raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._clock = database.clock
        self._executions = database.collection("executions")

    @database_call
    async def list_places(self, job_id: str) -> set[int]:
        """The places that the job's waiting executions have taken."""
        found = await self._executions.find(_waiting(job_id), {"place": True}).to_list(None)
        return {document["place"] for document in found}

    @database_call
    async def promote(self, job_id: str) -> bool:
        """Make the waiting execution with the earliest slot the live one, if the job has none."""
        try:
            found = await self._executions.find_one_and_update(
                known(Execution) | _waiting(job_id),
                {"$set": {"waiting": False, "live_for": job_id}, "$unset": {"place": True}},
                {"_id": True},
                sort=[("scheduled_for", ASCENDING)],
            )
        except DuplicateKeyError:
            return False
        return found is not None

    @database_call
    async def list_promotable(self, job_ids: Sequence[str] | None = None) -> list[str]:
        """The jobs, of these or of all, with a waiting execution and no live one."""
        query = known(Execution) | {"status": ExecutionStatus.QUEUED, "waiting": True}
        if job_ids is not None:
            query["job_id"] = {"$in": list(set(job_ids))}
        waiting = await self._executions.distinct("job_id", query)
        if not waiting:
            return []
        live_for = {"live_for": {"$in": waiting}}
        live = await self._executions.find(live_for, {"live_for": True}).to_list(None)
        return sorted(set(waiting) - {document["live_for"] for document in live})

    @database_call
    async def cancel_live(self, newcomer: Execution) -> None:
        """Ask the job's live execution to stop; one that is only queued ends at once."""
        reason, now = Reason.CANCELLED_BY_OVERLAP, self._clock.now_expression
        queued = _live_besides(newcomer) | cancellation.QUEUED
        running = _live_besides(newcomer) | cancellation.RUNNING
        for _ in range(_MOST_TRIES):
            ended = await self._executions.update_one(queued, cancellation.end(reason, now))
            asked = await self._executions.update_one(running, cancellation.request(reason, now))
            if ended.matched_count or asked.matched_count:
                return
            if await self._executions.find_one(queued, {"_id": True}) is None:
                return
            # It was running at the first write and is queued again, for its next attempt.

    @database_call
    async def terminate_live(self, newcomer: Execution) -> None:
        """End the job's live execution without asking: later writes of its worker match nothing."""
        now = self._clock.now_expression
        end = {"outcome": AttemptOutcome.CANCELLED, "error": "terminated"}
        is_open = {"$eq": [{"$ifNull": ["$$attempt.outcome", None]}, None]}
        ended = {"$mergeObjects": ["$$attempt", {"finished_at": now}, {"$literal": end}]}
        attempt = {"$cond": [is_open, ended, "$$attempt"]}
        attempts = {"$map": {"input": "$attempts", "as": "attempt", "in": attempt}}
        token = {"$add": ["$lease_token", 1]}
        live = [cancellation.QUEUED["status"], cancellation.RUNNING["status"]]
        await self._executions.update_one(
            _live_besides(newcomer) | {"status": {"$in": live}},
            [
                {"$set": {"attempts": attempts, "lease_token": token}},
                *cancellation.end(Reason.TERMINATED_BY_OVERLAP, now),
            ],
        )

    @database_call
    async def replace_waiting(self, newcomer: Execution, place: int) -> None:
        """End the older execution that waits at this place, so that the newcomer can take it."""
        older = (
            known(Execution)
            | _waiting(newcomer.job_id)
            | {
                "place": place,
                "scheduled_for": {"$lte": newcomer.scheduled_for},
                "_id": {"$ne": newcomer.id},
            }
        )
        now = self._clock.now_expression
        await self._executions.update_one(older, cancellation.end(Reason.REPLACED_BY_NEWER, now))


def _waiting(job_id: str | Document) -> Document:
    return {"job_id": job_id, "status": ExecutionStatus.QUEUED, "waiting": True}


def _live_besides(newcomer: Execution) -> Document:
    """The job's live execution, but not the record of the newcomer's own slot, which another
    process may have inserted meanwhile."""
    own_slot: Sequence[Document] = [{"_id": newcomer.id}]
    if newcomer.kind in ONE_PER_SLOT:  # a retry may share its slot with others
        own_slot = [*own_slot, slot_of(newcomer)]
    return known(Execution) | {"live_for": newcomer.job_id, "$nor": own_slot}
