"""The `executions` collection as workers see it: claims, leases and attempts.

A claim gives a lease: `lease_owner`, `lease_until` and a `lease_token` that each claim raises.
Every later write carries the fence of the lease (see `lease_fence.py`).
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ASCENDING, ReturnDocument
from pymongo.read_concern import ReadConcern

from app.clock import count_milliseconds
from app.models.execution import Execution, ExecutionStatus, require_move
from app.repositories import lease_fence
from app.repositories.attempts import ABANDONED, WITHOUT_RESPONSES, end_open_attempts
from app.repositories.documents import known, read_key
from app.repositories.lease_fence import RAISE_TOKEN, AttemptsSeen, Lease
from app.repositories.mongo import Database, Document, database_call, pick
from app.repositories.readers import ExecutionReader
from app.repositories.settlements import Settlement, settlement_stages


@dataclass(frozen=True, slots=True)
class AttemptStart:
    """An attempt that begins now. `number` follows those of the attempts that have ended."""

    lease: Lease
    number: int
    job_revision: int


@dataclass(frozen=True, slots=True)
class NextClaimable:
    """The database's now, and when the first claimable execution may start."""

    now: datetime
    run_at: datetime | None


class LeaseRepository:
    """Conditional writes on queued and running executions, for one lease owner.

    Its leases last `term`. Every method may raise UnavailableError.
    """

    def __init__(self, database: Database, *, lease_owner: str, term: timedelta) -> None:
        self._database = database
        self._lease_owner = lease_owner
        self._term = term
        self._executions = database.collection("executions")
        self._reader = ExecutionReader(database)
        self._majority = self._executions.with_options(read_concern=ReadConcern("majority"))
        """For reads on which a delivery or a result rests: they return nothing that a failover
        can take back."""

    @database_call
    async def peek(self) -> NextClaimable:
        """When the first claimable execution may start."""
        document = await self._executions.find_one(
            _QUEUE, {"run_at": True, "now": self._now}, sort=[("run_at", ASCENDING)]
        )
        if document is None:
            return NextClaimable(await self._database.now(), None)
        return NextClaimable(document["now"], read_key(document, "run_at"))

    def claimable(self) -> Document:
        """The condition on what may be claimed now: one range of the index `claimable`."""
        return _QUEUE | {"$expr": {"$lte": ["$run_at", self._now]}}

    @database_call
    async def claim(self, *, limit: int) -> list[Execution]:
        """Claim up to `limit` executions that are due, the earliest `run_at` first.

        Claims the first execution by `findOneAndUpdate` and, if there is one, the others by one
        `updateMany` with the same filter. Two workers never get the same execution.
        """
        if limit < 1:
            return []
        first = await self._executions.find_one_and_update(
            self.claimable(),
            self._build_claim_update(),
            WITHOUT_RESPONSES,
            sort=[("run_at", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
        if first is None:
            return []
        more = await self._claim_batch(limit - 1) if limit > 1 else []
        return await self._reader.read([first, *more])

    async def _claim_batch(self, limit: int) -> list[Document]:
        found = self._executions.find(self.claimable(), {"_id": True})
        due = await found.sort("run_at", ASCENDING).limit(limit).to_list(None)
        if not due:
            return []
        ids = {"$in": [document["_id"] for document in due]}
        await self._executions.update_many(
            self.claimable() | {"_id": ids}, self._build_claim_update()
        )
        # None of these belonged to this lease owner before, so the write above has claimed those
        # that belong to it now.
        claimed = self._executions.find({"_id": ids} | self._owned(), WITHOUT_RESPONSES)
        return await claimed.sort("run_at", ASCENDING).to_list(None)

    def _build_claim_update(self) -> list[Document]:
        return [
            {
                "$set": {
                    "status": ExecutionStatus.RUNNING,
                    "lease_owner": {"$literal": self._lease_owner},
                    "lease_until": {"$add": [self._now, count_milliseconds(self._term)]},
                    "lease_token": RAISE_TOKEN,
                    # Earlier releases could queue an execution whose attempt had not ended.
                    "attempts": end_open_attempts({"$literal": ABANDONED}, self._now),
                }
            }
        ]

    @database_call
    async def list_owned(self) -> list[Execution]:
        """The executions on which this lease owner holds a lease, to find claims whose response
        was lost."""
        found = self._executions.find(known(Execution) | self._owned(), WITHOUT_RESPONSES)
        return await self._reader.read(await found.to_list(None))

    def _owned(self) -> Document:
        return {"status": ExecutionStatus.RUNNING, "lease_owner": self._lease_owner}

    @database_call
    async def start(self, starts: Sequence[AttemptStart]) -> list[bool]:
        """Record that attempts start now. False: the lease is lost or has run out, or a cancel was
        requested.

        A second call, after an unknown outcome, adds no second attempt. It returns True for a start
        that a majority of the replica set has.
        """
        leases = [start.lease for start in starts]
        ids = [lease.execution_id for lease in leases]
        attempt = {
            "number": pick(ids, [start.number for start in starts]),
            "job_revision": pick(ids, [start.job_revision for start in starts]),
            "started_at": self._now,
        }
        allowed = self._is_valid() | {"cancel_requested_at": None}
        before = [AttemptsSeen(start.number - 1, is_open=False) for start in starts]
        result = await self._executions.update_many(
            lease_fence.build_fence(leases, before) | allowed,
            [{"$set": {"attempts": {"$concatArrays": ["$attempts", [attempt]]}}}],
        )
        if result.matched_count == len(starts):
            return [True] * len(starts)
        after = [AttemptsSeen(start.number, is_open=True) for start in starts]
        started = await self._list_ids(lease_fence.build_fence(leases, after) | allowed)
        return [id_ in started for id_ in ids]

    @database_call
    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End leases that the caller holds. False: the lease was lost or has run out, or the
        attempts are not those of the settlement; nothing was changed.

        A second call after an unknown outcome returns what the first would have returned.
        """
        leases = [settlement.lease for settlement in settlements]
        if await self._settle(settlements, self._is_valid(), []) == len(settlements):
            return [True] * len(settlements)
        found = await self._read_back([lease.execution_id for lease in leases])
        return [
            _has_token(found, lease)
            and found[lease.execution_id]["status"] != ExecutionStatus.RUNNING
            for lease in leases
        ]

    @database_call
    async def settle_expired(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End leases that have run out, whoever holds them. False: the lease was renewed or settled
        in between, or its attempt was started.

        The write raises the token, so that late writes of the former lease owner match nothing.
        """
        raise_token = {"$set": {"lease_token": RAISE_TOKEN}}
        expired = {"$expr": self._is_expired()}
        if await self._settle(settlements, expired, [raise_token]) == len(settlements):
            return [True] * len(settlements)
        leases = [settlement.lease for settlement in settlements]
        found = await self._read_back([lease.execution_id for lease in leases])
        return [
            lease.execution_id in found
            and found[lease.execution_id]["lease_token"] == lease.token + 1
            for lease in leases
        ]

    async def _settle(
        self, settlements: Sequence[Settlement], condition: Document, stages: list[Document]
    ) -> int:
        """Settle those whose fence and attempts match and whose document meets `condition`."""
        leases = [settlement.lease for settlement in settlements]
        fence = lease_fence.build_fence(leases, [one.attempts_seen for one in settlements])
        pipeline = [*stages, *settlement_stages(settlements, self._now)]
        result = await self._executions.update_many(fence | condition, pipeline)
        return result.matched_count

    async def _read_back(self, ids: list[str]) -> dict[str, Document]:
        fields = {"lease_token": True, "status": True}
        found = self._majority.find({"_id": {"$in": ids}}, fields)
        return {document["_id"]: document for document in await found.to_list(None)}

    async def _list_ids(self, condition: Document) -> set[str]:
        found = self._majority.find(condition, {"_id": True})
        return {document["_id"] for document in await found.to_list(None)}

    @database_call
    async def list_held(self, leases: Sequence[Lease]) -> set[Lease]:
        """Those of these leases that nobody has settled yet, whether or not they have run out."""
        held = await self._list_ids(lease_fence.build_fence(leases))
        return {lease for lease in leases if lease.execution_id in held}

    @database_call
    async def list_expired(
        self, *, limit: int, besides_jobs: AbstractSet[str] = frozenset()
    ) -> list[Execution]:
        """Running executions whose lease has run out, the longest expired first."""
        expired = self.build_expired_query()
        if besides_jobs:
            expired["job_id"] = {"$nin": list(besides_jobs)}
        found = self._executions.find(expired, WITHOUT_RESPONSES)
        found = found.sort("lease_until", ASCENDING).limit(limit)
        return await self._reader.read(await found.to_list(None))

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

    def _is_valid(self) -> Document:
        """The condition that a lease has not run out."""
        return {"$expr": {"$gt": ["$lease_until", self._now]}}


_QUEUE: Document = known(Execution) | {
    "status": require_move(ExecutionStatus.QUEUED, ExecutionStatus.RUNNING),
    "waiting": False,
}


def _has_token(found: dict[str, Document], lease: Lease) -> bool:
    document = found.get(lease.execution_id)
    return document is not None and document["lease_token"] == lease.token
