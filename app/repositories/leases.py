"""The `executions` collection as workers see it: claims, leases and attempts.

A claim gives a lease: `lease_owner`, `lease_until` and a `lease_token` that only grows. Every
later write carries the fence of the lease, so a worker that lost its lease changes nothing.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ASCENDING, ReturnDocument

from app.models.execution import Execution, ExecutionStatus, require_move
from app.repositories import lease_fence
from app.repositories.documents import from_document, known
from app.repositories.lease_fence import Lease
from app.repositories.mongo import Database, Document, database_call, pick
from app.repositories.settlements import Settlement, settlement_stages

_RAISE_TOKEN = {"$add": ["$lease_token", 1]}


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt that begins now."""

    lease: Lease
    number: int
    job_revision: int


@dataclass(frozen=True, slots=True)
class QueuePeek:
    """The database's now, and when the first claimable execution may start."""

    now: datetime
    run_at: datetime | None


class LeaseRepository:
    """Conditional writes on live executions, for one lease owner whose leases last `term`.

    Every method may raise UnavailableError.
    """

    def __init__(self, database: Database, *, lease_owner: str, term: timedelta) -> None:
        self._database = database
        self._lease_owner = lease_owner
        self._term = term
        self._executions = database.collection("executions")

    @database_call
    async def peek(self) -> QueuePeek:
        """When the first claimable execution may start."""
        document = await self._executions.find_one(
            _QUEUE, {"run_at": True, "now": self._now}, sort=[("run_at", ASCENDING)]
        )
        if document is None:
            return QueuePeek(await self._database.now(), None)
        return QueuePeek(document["now"], document["run_at"])

    def claimable(self) -> Document:
        """What may be claimed now: a single range of the claim index."""
        return _QUEUE | {"$expr": {"$lte": ["$run_at", self._now]}}

    @database_call
    async def claim(self, *, limit: int) -> list[Execution]:
        """Take up to `limit` executions that are due, the longest queued first.

        The first by `findOneAndUpdate`; if more are due, the others by the same filter over a
        batch. Two workers never get the same execution.
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
        found = self._executions.find(self.claimable(), {"_id": True})
        due = await found.sort("run_at", ASCENDING).limit(limit).to_list(None)
        if not due:
            return []
        ids = {"$in": [document["_id"] for document in due]}
        await self._executions.update_many(self.claimable() | {"_id": ids}, self._claim())
        # This lease owner held none of them before, so this write won those that it holds now.
        won = self._executions.find({"_id": ids} | self._owned())
        return await won.sort("run_at", ASCENDING).to_list(None)

    def _claim(self) -> list[Document]:
        return [
            {
                "$set": {
                    "status": ExecutionStatus.RUNNING,
                    "lease_owner": {"$literal": self._lease_owner},
                    "lease_until": {"$add": [self._now, self._term // timedelta(milliseconds=1)]},
                    "lease_token": _RAISE_TOKEN,
                }
            }
        ]

    @database_call
    async def list_owned(self) -> list[Execution]:
        """The executions on which this lease owner holds a lease, to find claims whose response
        was lost."""
        found = self._executions.find(known(Execution) | self._owned())
        return [from_document(Execution, document) for document in await found.to_list(None)]

    def _owned(self) -> Document:
        return {"status": ExecutionStatus.RUNNING, "lease_owner": self._lease_owner}

    @database_call
    async def start(self, starts: Sequence[Start]) -> list[bool]:
        """Record that attempts start now. False: the lease is lost, or a cancel was requested."""
        leases = [start.lease for start in starts]
        ids = [lease.execution_id for lease in leases]
        numbers = pick(ids, [start.number for start in starts])
        attempt = {
            "number": numbers,
            "job_revision": pick(ids, [start.job_revision for start in starts]),
            "started_at": self._now,
        }
        # A second call after a lost response must not add a second attempt.
        is_next = {"$eq": [{"$add": [{"$size": "$attempts"}, 1]}, numbers]}
        held = _held(leases, is_next) | {"cancel_requested_at": None}
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

        A second call after an unknown outcome returns what the first would have returned.
        """
        leases = [settlement.lease for settlement in settlements]
        if await self._settle(settlements, lease_fence.held(leases), []) == len(settlements):
            return [True] * len(settlements)
        found = await self._read_back([lease.execution_id for lease in leases])
        return [
            _has_token(found, lease)
            and found[lease.execution_id]["status"] != ExecutionStatus.RUNNING
            for lease in leases
        ]

    @database_call
    async def settle_expired(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End leases of others that have run out. False: renewed or settled meanwhile.

        It raises the token, so that late writes of the former lease owner match nothing.
        """
        leases = [settlement.lease for settlement in settlements]
        held = _held(leases, self._is_expired())
        raise_token = {"$set": {"lease_token": _RAISE_TOKEN}}
        if await self._settle(settlements, held, [raise_token]) == len(settlements):
            return [True] * len(settlements)
        found = await self._read_back([lease.execution_id for lease in leases])
        return [
            lease.execution_id in found
            and found[lease.execution_id]["lease_token"] == lease.token + 1
            for lease in leases
        ]

    async def _settle(
        self, settlements: Sequence[Settlement], held: Document, stages: list[Document]
    ) -> int:
        pipeline = [*stages, *settlement_stages(settlements, self._now)]
        result = await self._executions.update_many(held, pipeline)
        return result.matched_count

    async def _read_back(self, ids: list[str]) -> dict[str, Document]:
        fields = {"lease_token": True, "status": True, "attempts.number": True}
        found = self._executions.find({"_id": {"$in": ids}}, fields)
        return {document["_id"]: document for document in await found.to_list(None)}

    @database_call
    async def list_expired(
        self, *, limit: int, besides_jobs: AbstractSet[str] = frozenset()
    ) -> list[Execution]:
        """Running executions whose lease has run out, the longest expired first."""
        expired = self.build_expired_query()
        if besides_jobs:
            expired["job_id"] = {"$nin": list(besides_jobs)}
        found = self._executions.find(expired)
        found = found.sort("lease_until", ASCENDING).limit(limit)
        return [from_document(Execution, document) for document in await found.to_list(None)]

    @database_call
    async def list_cancel_requested(self, execution_ids: Sequence[str]) -> list[str]:
        """Which of these running executions a cancel was requested for."""
        query = {"_id": {"$in": list(execution_ids)}, "cancel_requested_at": {"$ne": None}}
        documents = await self._executions.find(query, {"_id": True}).to_list(None)
        return [document["_id"] for document in documents]

    def build_expired_query(self) -> Document:
        """Executions whose lease has run out: a single range of the reaper's index."""
        expired = {"status": ExecutionStatus.RUNNING, "$expr": self._is_expired()}
        return known(Execution) | expired

    @property
    def _now(self) -> Any:
        return self._database.clock.now_expression

    def _is_expired(self) -> Document:
        return {"$lte": ["$lease_until", self._now]}


_QUEUE: Document = known(Execution) | {
    "status": require_move(ExecutionStatus.QUEUED, ExecutionStatus.RUNNING),
    "waiting": False,
}


def _held(leases: Sequence[Lease], condition: Document) -> Document:
    """The fence of the leases, and a condition (an expression) on each document."""
    held = lease_fence.held(leases)
    return held | {"$expr": {"$and": [held["$expr"], condition]}}


def _has_token(found: dict[str, Document], lease: Lease) -> bool:
    document = found.get(lease.execution_id)
    return document is not None and document["lease_token"] == lease.token
