"""The `executions` collection as the overlap policies see it: who is live, who is held.

Of a job's executions that do not run side by side one is live: it carries `live_for`. Others wait
as `held`, each at a `place` of its own. Both are unique indexes, so the policies hold in the whole
cluster whatever crashes.
"""

from collections.abc import Sequence
from typing import Any

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from app.models.execution import Execution
from app.repositories.executions import ONE_A_SLOT, slot_of
from app.repositories.mongo import Database, Document, database_call

_MOST_TRIES = 3  # each lost to an end that another attempt follows
_LEAVE_THE_QUEUE = {"$unset": ["live_for", "place", "lease_owner", "lease_until"]}


class OverlapRepository:
    """Conditional writes against other executions of a job. May raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._clock = database.clock
        self._executions = database.collection("executions")

    @database_call
    async def list_places(self, job_id: str) -> set[int]:
        """The places that held executions of the job have taken."""
        found = await self._executions.find(_held(job_id), {"place": True}).to_list(None)
        return {document["place"] for document in found}

    @database_call
    async def list_waiting(self, job_ids: Sequence[str]) -> list[str]:
        """Which of these jobs have a held execution."""
        query = _held({"$in": list(set(job_ids))})
        found = await self._executions.find(query, {"job_id": True}).to_list(None)
        return sorted({document["job_id"] for document in found})

    @database_call
    async def promote(self, job_id: str) -> bool:
        """Let the held execution with the smallest slot be the live one, if none is."""
        try:
            found = await self._executions.find_one_and_update(
                _held(job_id),
                {"$set": {"held": False, "live_for": job_id}, "$unset": {"place": True}},
                {"_id": True},
                sort=[("scheduled_for", ASCENDING)],
            )
        except DuplicateKeyError:
            return False
        return found is not None

    @database_call
    async def list_deserted(self) -> list[str]:
        """Jobs with a held execution and no live one: their finisher died before it promoted."""
        waiting = await self._executions.distinct("job_id", {"status": "queued", "held": True})
        if not waiting:
            return []
        query = {"live_for": {"$in": waiting}}
        live = await self._executions.find(query, {"live_for": True}).to_list(None)
        return sorted(set(waiting) - {document["live_for"] for document in live})

    @database_call
    async def cancel_live(self, newcomer: Execution) -> None:
        """Ask the job's live execution to stop; one that is only queued ends at once."""
        reason = _literal("cancelled_by_overlap")
        live = _live_besides(newcomer)
        requested = {"cancel_requested_at": self._clock.now_expression, "reason": reason}
        for _ in range(_MOST_TRIES):
            queued = live | {"status": "queued"}
            ended = await self._executions.update_one(queued, self._ended("cancelled", reason))
            running = live | {"status": "running", "cancel_requested_at": None}
            asked = await self._executions.update_one(running, [{"$set": requested}])
            if ended.matched_count or asked.matched_count:
                return
            if await self._executions.find_one(queued, {"_id": True}) is None:
                return  # else it ran at the first write, and waits since for its next attempt

    @database_call
    async def terminate_live(self, newcomer: Execution) -> None:
        """End the job's live execution without asking: its worker's writes match nothing more."""
        attempt_ended = {
            "$cond": [
                {"$eq": [{"$ifNull": ["$$attempt.outcome", None]}, None]},
                {
                    "$mergeObjects": [
                        "$$attempt",
                        {"finished_at": self._clock.now_expression},
                        _literal({"outcome": "cancelled", "error": "terminated"}),
                    ]
                },
                "$$attempt",
            ]
        }
        attempts = {"$map": {"input": "$attempts", "as": "attempt", "in": attempt_ended}}
        token = {"$add": ["$lease_token", 1]}
        await self._executions.update_one(
            _live_besides(newcomer) | {"status": {"$in": ["queued", "running"]}},
            [
                {"$set": {"attempts": attempts, "lease_token": token}},
                *self._ended("cancelled", _literal("terminated_by_overlap")),
            ],
        )

    @database_call
    async def give_up_place(self, newcomer: Execution, place: int) -> None:
        """End the older execution that is held at this place: a newer one replaces it."""
        query = _held(newcomer.job_id) | {
            "place": place,
            "scheduled_for": {"$lte": newcomer.scheduled_for},
            "_id": {"$ne": newcomer.id},
        }
        await self._executions.update_one(
            query, self._ended("cancelled", _literal("replaced_by_newer"))
        )

    def _ended(self, status: str, reason: Document) -> list[Document]:
        ended = {"status": status, "reason": reason, "finished_at": self._clock.now_expression}
        return [{"$set": ended}, _LEAVE_THE_QUEUE]


def _held(job_id: str | Document) -> Document:
    return {"job_id": job_id, "status": "queued", "held": True}


def _live_besides(newcomer: Execution) -> Document:
    """The job's live execution, unless it is the record of the newcomer's own slot, which
    somebody else may have written meanwhile."""
    own_slot: Sequence[Document] = [{"_id": newcomer.id}]
    if newcomer.kind in ONE_A_SLOT:  # a retry may have its slot in common with others
        own_slot = [*own_slot, slot_of(newcomer)]
    return {"live_for": newcomer.job_id, "$nor": own_slot}


def _literal(value: Any) -> Document:
    return {"$literal": value}
