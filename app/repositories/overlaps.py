"""The `executions` collection as the overlap policies see it: live and waiting executions.

At most one execution of a job is live, executions under `allow_all` not counted. It carries
`live_for`. The others are `waiting`, each at a position of its own, which the field `place` stores.
Unique indexes enforce both rules for all processes, also after a crash.
"""

from collections.abc import Sequence

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from app.models.execution import AttemptOutcome, Execution, ExecutionStatus, Reason
from app.repositories import cancellation
from app.repositories.documents import known
from app.repositories.executions import ONE_PER_SLOT, build_slot_condition
from app.repositories.lease_fence import RAISE_TOKEN
from app.repositories.mongo import Database, Document, database_call

_MAX_TRIES = 3  # a try fails if the execution changes its status between the two writes


class OverlapRepository:
    """Conditional writes against other executions of a job. May raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._clock = database.clock
        self._executions = database.collection("executions")

    @database_call
    async def list_positions(self, job_id: str) -> set[int]:
        """The positions that the job's waiting executions have taken."""
        found = await self._executions.find(
            _build_waiting_condition(job_id), {"place": True}
        ).to_list(None)
        return {place for one in found if isinstance(place := one.get("place"), int)}

    @database_call
    async def promote(self, job_id: str) -> bool:
        """Make the waiting execution with the earliest slot live, if the job has no live one."""
        try:
            found = await self._executions.find_one_and_update(
                known(Execution) | _build_waiting_condition(job_id),
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
        found = await self._executions.distinct("job_id", query)
        waiting = [job_id for job_id in found if isinstance(job_id, str)]
        if not waiting:
            return []
        live_for = {"live_for": {"$in": waiting}}
        live = await self._executions.find(live_for, {"live_for": True}).to_list(None)
        return sorted(set(waiting) - {document["live_for"] for document in live})

    @database_call
    async def cancel_live(self, new_execution: Execution) -> None:
        """Ask the job's live execution to stop; if it is queued, cancel it immediately."""
        reason, now = Reason.CANCELLED_BY_OVERLAP, self._clock.now_expression
        queued = _build_other_live_condition(new_execution) | cancellation.CAN_END
        running = _build_other_live_condition(new_execution) | cancellation.CAN_BE_ASKED
        for _ in range(_MAX_TRIES):
            ended = await self._executions.update_one(queued, cancellation.end(reason, now))
            asked = await self._executions.update_one(running, cancellation.request(reason, now))
            if ended.matched_count or asked.matched_count:
                return
            if await self._executions.find_one(queued, {"_id": True}) is None:
                return
            # It was running at the first write and is queued again, for its next attempt.

    @database_call
    async def terminate_live(self, new_execution: Execution) -> None:
        """End the job's live execution without asking its worker, whose later writes match
        nothing."""
        now = self._clock.now_expression
        end = {"outcome": AttemptOutcome.CANCELLED, "error": "terminated"}
        # An expression must not fail on a malformed execution: it would stop the caller's batch.
        is_open = {
            "$and": [
                {"$eq": [{"$type": "$$attempt"}, "object"]},
                {"$eq": [{"$ifNull": ["$$attempt.outcome", None]}, None]},
            ]
        }
        ended = {"$mergeObjects": ["$$attempt", {"finished_at": now}, {"$literal": end}]}
        attempt = {"$cond": [is_open, ended, "$$attempt"]}
        mapped = {"$map": {"input": "$attempts", "as": "attempt", "in": attempt}}
        attempts = {"$cond": [{"$isArray": "$attempts"}, mapped, "$attempts"]}
        live = [cancellation.CAN_END["status"], cancellation.CAN_BE_ASKED["status"]]
        await self._executions.update_one(
            _build_other_live_condition(new_execution) | {"status": {"$in": live}},
            [
                {"$set": {"attempts": attempts, "lease_token": RAISE_TOKEN}},
                *cancellation.end(Reason.TERMINATED_BY_OVERLAP, now),
            ],
        )

    @database_call
    async def cancel_older_waiting(self, new_execution: Execution, position: int) -> None:
        """Cancel the older execution at this position, so that the new one can take it."""
        older = (
            known(Execution)
            | _build_waiting_condition(new_execution.job_id)
            | {
                "place": position,
                "scheduled_for": {"$lte": new_execution.scheduled_for},
                "_id": {"$ne": new_execution.id},
            }
        )
        now = self._clock.now_expression
        await self._executions.update_one(older, cancellation.end(Reason.REPLACED_BY_NEWER, now))


def _build_waiting_condition(job_id: str | Document) -> Document:
    return {"job_id": job_id, "status": ExecutionStatus.QUEUED, "waiting": True}


def _build_other_live_condition(new_execution: Execution) -> Document:
    """The condition on the job's live execution, unless it is the record of the same slot, which
    another process may have inserted in between."""
    own_slot: Sequence[Document] = [{"_id": new_execution.id}]
    if new_execution.kind in ONE_PER_SLOT:  # a retry may share its slot with others
        own_slot = [*own_slot, build_slot_condition(new_execution)]
    return known(Execution) | {"live_for": new_execution.job_id, "$nor": own_slot}
