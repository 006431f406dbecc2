"""The `executions` collection as workers see it: claims, leases and attempts.

A claim gives a lease: `lease_owner`, `lease_until` and a `lease_token` that only grows. Every
later write names the token, so a worker that lost its lease changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ASCENDING, ReturnDocument

from app.models.execution import FINAL_STATUSES, Execution, ExecutionStatus
from app.models.outcome import Outcome
from app.repositories.documents import from_document
from app.repositories.mongo import Database, Document, database_call, pick


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one execution."""

    execution_id: str
    token: int


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt that begins now."""

    lease: Lease
    number: int
    job_revision: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a lease: what the attempt came to, and where the execution goes.

    `attempt` is None where none was started. A move to `queued` runs again after `delay`.
    A cancel that was requested meanwhile wins over every `status`.
    """

    lease: Lease
    status: ExecutionStatus
    attempt: int | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    delay: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class QueuePeek:
    """What the claim index begins with: the database's now, and when the first may run."""

    now: datetime
    run_at: datetime | None


class LeaseRepository:
    """Conditional writes on live executions, for one owner whose leases last `lease`.

    Every method may raise UnavailableError.
    """

    def __init__(self, database: Database, *, owner: str, lease: timedelta) -> None:
        self._database = database
        self._owner = owner
        self._lease = lease
        self._now = database.clock
        self._executions = database.collection("executions")

    @database_call
    async def peek(self) -> QueuePeek:
        """When the first claimable execution may run."""
        document = await self._executions.find_one(
            {"status": "queued", "held": False},
            {"run_at": True, "now": self._now.now_expression},
            sort=[("run_at", ASCENDING)],
        )
        if document is None:
            return QueuePeek(await self._database.now(), None)
        return QueuePeek(document["now"], document["run_at"])

    def claimable(self) -> Document:
        """What may be claimed now: a single range of the claim index."""
        due = {"$lte": ["$run_at", self._now.now_expression]}
        return {"status": "queued", "held": False, "$expr": due}

    @database_call
    async def claim(self, *, limit: int) -> list[Execution]:
        """Take up to `limit` executions that are due, the longest waiting first.

        The first by `findOneAndUpdate`; where more wait, the same filter over a batch. Two
        workers never get the same one.
        """
        if limit < 1:
            return []
        first = await self._executions.find_one_and_update(
            self.claimable(),
            self._claim(),
            sort=[("run_at", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
        if first is None:
            return []
        more = await self._claim_batch(limit - 1) if limit > 1 else []
        return [from_document(Execution, document) for document in [first, *more]]

    async def _claim_batch(self, limit: int) -> list[Document]:
        cursor = self._executions.find(self.claimable(), {"_id": True})
        waiting = await cursor.sort("run_at", ASCENDING).limit(limit).to_list(None)
        if not waiting:
            return []
        ids = {"$in": [document["_id"] for document in waiting]}
        await self._executions.update_many(self.claimable() | {"_id": ids}, self._claim())
        # None of them was this owner's before, so those that are now were won by this write.
        won = self._executions.find({"_id": ids, "status": "running", "lease_owner": self._owner})
        return await won.sort("run_at", ASCENDING).to_list(None)

    def _claim(self) -> list[Document]:
        return [
            {
                "$set": {
                    "status": "running",
                    "lease_owner": {"$literal": self._owner},
                    "lease_until": self._after(self._lease),
                    "lease_token": {"$add": ["$lease_token", 1]},
                }
            }
        ]

    @database_call
    async def list_owned(self) -> list[Execution]:
        """Everything this owner holds a lease on: to find claims whose answer was lost."""
        cursor = self._executions.find({"status": "running", "lease_owner": self._owner})
        return [from_document(Execution, document) for document in await cursor.to_list(None)]

    @database_call
    async def start(self, starts: Sequence[Start]) -> list[bool]:
        """Record that attempts begin now. False: the lease is lost, or a cancel was requested."""
        leases = [start.lease for start in starts]
        ids = [lease.execution_id for lease in leases]
        numbers = pick(ids, [start.number for start in starts])
        attempt = {
            "number": numbers,
            "job_revision": pick(ids, [start.job_revision for start in starts]),
            "started_at": self._now.now_expression,
        }
        held = self._held(leases) | {"cancel_requested_at": None}
        # Not recorded yet: a second try after a lost answer must not add a second attempt.
        is_next = {"$eq": [{"$add": [{"$size": "$attempts"}, 1]}, numbers]}
        held["$expr"] = {"$and": [held["$expr"], is_next]}
        result = await self._executions.update_many(
            held,
            [{"$set": {"attempts": {"$concatArrays": ["$attempts", [attempt]]}}}],
        )
        if result.matched_count == len(starts):
            return [True] * len(starts)
        found = await self._read_back(ids)
        return [
            _has_token(found, start.lease)
            and len(found[start.lease.execution_id]["attempts"]) == start.number
            for start in starts
        ]

    @database_call
    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End leases that the caller holds. False: the lease was lost and nothing was changed.

        A second try after an unknown outcome answers as the first would have.
        """
        leases = [settlement.lease for settlement in settlements]
        if await self._update(settlements, self._held(leases), []) == len(settlements):
            return [True] * len(settlements)
        found = await self._read_back([lease.execution_id for lease in leases])
        return [
            _has_token(found, lease) and found[lease.execution_id]["status"] != "running"
            for lease in leases
        ]

    @database_call
    async def settle_expired(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End leases of others that have run out. False: renewed or settled meanwhile.

        The token is raised, so that the former owner's late writes match nothing.
        """
        leases = [settlement.lease for settlement in settlements]
        expired = {"$lte": ["$lease_until", self._now.now_expression]}
        held = self._held(leases)
        held["$expr"] = {"$and": [held["$expr"], expired]}
        raise_token = {"$set": {"lease_token": {"$add": ["$lease_token", 1]}}}
        if await self._update(settlements, held, [raise_token]) == len(settlements):
            return [True] * len(settlements)
        found = await self._read_back([lease.execution_id for lease in leases])
        return [
            lease.execution_id in found
            and found[lease.execution_id]["lease_token"] == lease.token + 1
            for lease in leases
        ]

    async def _update(
        self, settlements: Sequence[Settlement], held: Document, stages: list[Document]
    ) -> int:
        pipeline = [*stages, *_settlement_stages(settlements, self._now.now_expression)]
        result = await self._executions.update_many(held, pipeline)
        return result.matched_count

    async def _read_back(self, ids: list[str]) -> dict[str, Document]:
        fields = {"lease_token": True, "status": True, "attempts.number": True}
        cursor = self._executions.find({"_id": {"$in": ids}}, fields)
        return {document["_id"]: document for document in await cursor.to_list(None)}

    @database_call
    async def list_expired(self, *, limit: int) -> list[Execution]:
        """Running executions whose lease has run out, the longest expired first."""
        expired = {"$lte": ["$lease_until", self._now.now_expression]}
        cursor = self._executions.find({"status": "running", "$expr": expired})
        cursor = cursor.sort("lease_until", ASCENDING).limit(limit)
        return [from_document(Execution, document) for document in await cursor.to_list(None)]

    @database_call
    async def list_cancel_requested(self, execution_ids: Sequence[str]) -> list[str]:
        """Which of these running executions somebody has asked to stop."""
        query = {"_id": {"$in": list(execution_ids)}, "cancel_requested_at": {"$ne": None}}
        documents = await self._executions.find(query, {"_id": True}).to_list(None)
        return [document["_id"] for document in documents]

    @staticmethod
    def _held(leases: Sequence[Lease]) -> Document:
        """The fence: these executions, running, and each under the token of its lease."""
        ids = [lease.execution_id for lease in leases]
        tokens = pick(ids, [lease.token for lease in leases])
        return {
            "_id": {"$in": ids},
            "status": "running",
            "$expr": {"$eq": ["$lease_token", tokens]},
        }

    def _after(self, delay: timedelta) -> Document:
        return {"$add": [self._now.now_expression, _milliseconds(delay)]}


def _settlement_stages(settlements: Sequence[Settlement], now: Any) -> list[Document]:
    ids = [settlement.lease.execution_id for settlement in settlements]
    cancelled = {"$gt": ["$cancel_requested_at", None]}
    final = {"$in": ["$status", sorted(FINAL_STATUSES)]}
    run_again = {"$add": [now, pick(ids, [_milliseconds(s.delay) for s in settlements])]}
    attempt_ended = {"$eq": ["$$attempt.number", pick(ids, [s.attempt for s in settlements])]}
    ended = {"finished_at": now}
    attempt = {"$mergeObjects": ["$$attempt", pick(ids, [_result(s) for s in settlements]), ended]}
    return [
        {
            "$set": {
                "status": {
                    "$cond": [cancelled, "cancelled", pick(ids, [s.status for s in settlements])]
                },
                "reason": {"$ifNull": [pick(ids, [s.reason for s in settlements]), "$reason"]},
                "attempts": {
                    "$map": {
                        "input": "$attempts",
                        "as": "attempt",
                        "in": {"$cond": [attempt_ended, attempt, "$$attempt"]},
                    }
                },
            }
        },
        {
            "$set": {
                "finished_at": {"$cond": [final, now, "$$REMOVE"]},
                "live_for": {"$cond": [final, "$$REMOVE", "$live_for"]},
                "run_at": {"$cond": [final, "$run_at", run_again]},
            }
        },
        {"$unset": ["lease_owner", "lease_until"]},
    ]


def _result(settlement: Settlement) -> Document:
    """What is added to the attempt that ends."""
    outcome = settlement.outcome
    if outcome is None:
        return {}
    response = None if outcome.response is None else outcome.response.model_dump()
    return {
        "outcome": outcome.outcome,
        "error": outcome.error,
        "response": response,
    }


def _has_token(found: dict[str, Document], lease: Lease) -> bool:
    document = found.get(lease.execution_id)
    return document is not None and document["lease_token"] == lease.token


def _milliseconds(delay: timedelta) -> int:
    return delay // timedelta(milliseconds=1)
