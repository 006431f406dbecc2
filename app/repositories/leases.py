"""The `executions` collection as workers see it: claims, leases and attempts.

A claim gives a lease: `lease_owner`, `lease_until` and a `lease_token` that each claim raises.
Every later write carries the fence of the lease (see `lease_fence.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson.errors import BSONError
from pymongo import ASCENDING, ReturnDocument
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from app.models.execution import Execution, ExecutionStatus
from app.repositories import lease_fence
from app.repositories.attempts import WITHOUT_RESPONSES
from app.repositories.batches import write_in_parts
from app.repositories.claims import QUEUE, UNCLAIMABLE, build_claim, build_listing
from app.repositories.documents import Unreadable, known
from app.repositories.lease_fence import RAISE_TOKEN, AttemptsSeen, Lease, split_by_groups
from app.repositories.mongo import Database, Document, database_call, is_outage, pick
from app.repositories.readers import ExecutionReader
from app.repositories.settlements import Settlement, settlement_stages


@dataclass(frozen=True, slots=True)
class AttemptStart:
    """An attempt that begins now. `number` follows those of the attempts that have ended."""

    lease: Lease
    number: int
    job_revision: int


@dataclass(frozen=True, slots=True)
class ExpiredPage:
    """Some of the executions whose lease has run out."""

    executions: list[Execution]
    left: int
    """How many of the page can still have a lease that has run out: these, and those that can be
    neither read nor ended."""
    is_full: bool
    """Whether there may be more."""


class LeaseRepository:
    """Conditional writes on queued and running executions, for one lease owner.

    Its leases last `term`. Every method may raise UnavailableError. An execution for which the
    database rejects the write ends `failed` with the reason `unreadable`, and harms no other.
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

    def claimable(self) -> Document:
        """The condition on what may be claimed now."""
        return QUEUE | {"$expr": {"$lte": ["$run_at", self._now]}}

    @database_call
    async def claim(self, slots: Mapping[str, int]) -> list[Execution] | None:
        """Claim executions that are due: of each owner at most as many as it has slots, the
        earliest `run_at` first. None: nothing of these owners is due.

        One execution is claimed by `findOneAndUpdate`, several by one `updateMany`. Two workers
        never get the same execution, so the result may be empty.
        """
        if sum(slots.values()) == 1:
            [owner_id] = slots
            return await self._claim_first({"owner_id": owner_id})
        ids = await self._list_ids_to_claim(slots)
        if len(ids) == 1:
            return await self._claim_first({"_id": ids[0]}) or []
        return await self._claim_many(ids) if ids else None

    async def _claim_first(self, condition: Document) -> list[Execution] | None:
        condition = self.claimable() | condition
        order = [("run_at", ASCENDING)]
        try:
            claimed = await self._executions.find_one_and_update(
                condition,
                self._build_claim(),
                WITHOUT_RESPONSES,
                sort=order,
                return_document=ReturnDocument.AFTER,
            )
        except PyMongoError as error:
            if is_outage(error):
                raise
            rejected = await self._executions.find_one(condition, {"_id": True}, sort=order)
            return await self._claim_many([rejected["_id"]]) if rejected else []
        return None if claimed is None else await self._reader.read([claimed])

    async def _list_ids_to_claim(self, slots: Mapping[str, int]) -> list[str]:
        found = await self._database.compute(build_listing(slots, self.claimable()))
        return [id_ for one in found for id_ in one["ids"]]

    async def _claim_many(self, ids: Sequence[str]) -> list[Execution]:
        await write_in_parts(ids, self._claim_ids, self._reject)
        # None of these belonged to this lease owner before, so the write above has claimed those
        # that belong to it now.
        claimed = self._executions.find({"_id": {"$in": ids}} | self._owned(), WITHOUT_RESPONSES)
        return await self._reader.read(await claimed.hint("_id_").to_list(None))

    @database_call
    async def _claim_ids(self, ids: Sequence[str]) -> list[bool]:
        condition = self.claimable() | {"_id": {"$in": ids}}
        await self._executions.update_many(condition, self._build_claim(), hint="_id_")
        return []

    def _build_claim(self) -> list[Document]:
        return build_claim(self._lease_owner, self._term, self._now)

    async def _reject(self, execution_id: str, error: Exception) -> list[bool]:
        """End an execution for which the database rejects a write."""
        await self._reader.end_rejected(execution_id, error)
        return [False]

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
        started: list[bool] = []
        for part in split_by_groups(starts, lambda start: (start.lease.token, start.number)):
            started += await write_in_parts(part, self._start_part, self._reject_start)
        return started

    async def _reject_start(self, start: AttemptStart, error: Exception) -> list[bool]:
        return await self._reject(start.lease.execution_id, error)

    @database_call
    async def _start_part(self, starts: Sequence[AttemptStart]) -> list[bool]:
        leases = [start.lease for start in starts]
        ids = [lease.execution_id for lease in leases]
        attempt = {
            "number": pick(ids, [start.number for start in starts]),
            "job_revision": pick(ids, [start.job_revision for start in starts]),
            "started_at": self._now,
        }
        allowed = lease_fence.is_valid(self._now) | {"cancel_requested_at": None}
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

        A second call after an unknown outcome returns what the first would have returned. Raises
        the error of a rejected batch, so that the caller divides it.
        """
        settled: list[bool] = []
        for part in split_by_groups(settlements, _group_of):
            settled += await self._settle_held(part)
        return settled

    async def _settle_held(self, settlements: Sequence[Settlement]) -> list[bool]:
        try:
            matched = await self._settle(settlements, lease_fence.is_valid(self._now), [])
        except (PyMongoError, BSONError) as error:
            if len(settlements) > 1 or settlements[0].response_size:
                raise  # a smaller part, or a result without its response, may be accepted
            if isinstance(error, PyMongoError) and is_outage(error):
                raise
            return await self._reject(settlements[0].lease.execution_id, error)
        if matched == len(settlements):
            return [True] * len(settlements)
        found = await self._read_back(settlements)
        return [one.has_ended(found.get(one.lease.execution_id)) for one in settlements]

    @database_call
    async def settle_expired(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End leases that have run out, whoever holds them. False: the lease was renewed or settled
        in between, or its attempt was started.

        The write raises the token, so that late writes of the former lease owner match nothing.
        """
        settled: list[bool] = []
        for part in split_by_groups(settlements, _group_of):
            settled += await write_in_parts(part, self._settle_expired_part, self._reject_expired)
        return settled

    async def _reject_expired(self, settlement: Settlement, error: Exception) -> list[bool]:
        return await self._reject(settlement.lease.execution_id, error)

    @database_call
    async def _settle_expired_part(self, settlements: Sequence[Settlement]) -> list[bool]:
        raise_token = {"$set": {"lease_token": RAISE_TOKEN}}
        expired = lease_fence.has_expired(self._now)
        if await self._settle(settlements, expired, [raise_token]) == len(settlements):
            return [True] * len(settlements)
        found = await self._read_back(settlements)
        return [one.has_ended_expired(found.get(one.lease.execution_id)) for one in settlements]

    async def _settle(
        self, settlements: Sequence[Settlement], condition: Document, stages: list[Document]
    ) -> int:
        """Settle those whose fence and attempts match and whose document meets `condition`."""
        leases = [settlement.lease for settlement in settlements]
        fence = lease_fence.build_fence(leases, [one.attempts_seen for one in settlements])
        pipeline = [*stages, *settlement_stages(settlements, self._now)]
        result = await self._executions.update_many(fence | condition, pipeline)
        return result.matched_count

    async def _read_back(self, settlements: Sequence[Settlement]) -> dict[str, Document]:
        ids = [settlement.lease.execution_id for settlement in settlements]
        fields = ("lease_token", "status", "cancel_requested_at")
        found = self._majority.find({"_id": {"$in": ids}}, dict.fromkeys(fields, True))
        return {document["_id"]: document for document in await found.to_list(None)}

    async def _list_ids(self, condition: Document) -> set[str]:
        found = self._majority.find(condition, {"_id": True})
        return {document["_id"] for document in await found.to_list(None)}

    @database_call
    async def list_held(self, leases: Sequence[Lease]) -> set[Lease]:
        """Those of these leases that nobody has settled yet, whether or not they have run out."""
        held: set[str] = set()
        for part in split_by_groups(leases, lambda lease: lease.token):
            held |= await self._list_ids(lease_fence.build_fence(part))
        return {lease for lease in leases if lease.execution_id in held}

    @database_call
    async def list_expired(self, *, limit: int, skip: int = 0) -> ExpiredPage:
        """Running executions whose lease has run out, the longest expired first."""
        found = self._executions.find(self.build_expired_query(), WITHOUT_RESPONSES)
        found = found.sort("lease_until", ASCENDING).skip(skip).limit(limit)
        documents = await found.to_list(None)
        executions, ended = await self._reader.read_and_count(documents)
        return ExpiredPage(executions, len(documents) - ended, is_full=len(documents) == limit)

    @database_call
    async def end_unclaimable(self, *, limit: int) -> None:
        """End queued executions whose `waiting` is not a boolean: no other query finds them."""
        found = self._executions.find(UNCLAIMABLE, {"job_id": True, "scheduled_for": True})
        documents = await found.limit(limit).to_list(None)
        await self._reader.end([Unreadable(document, "waiting") for document in documents])

    @database_call
    async def list_cancel_requested(self, execution_ids: Sequence[str]) -> list[str]:
        """Which of these running executions a cancel was requested for."""
        query = {"_id": {"$in": list(execution_ids)}, "cancel_requested_at": {"$ne": None}}
        documents = await self._executions.find(query, {"_id": True}).to_list(None)
        return [document["_id"] for document in documents]

    def build_expired_query(self) -> Document:
        """Executions whose lease has run out: a single range of the reaper's index."""
        running = {"status": ExecutionStatus.RUNNING}
        return known(Execution) | running | lease_fence.has_expired(self._now)

    @property
    def _now(self) -> Any:
        return self._database.clock.now_expression


def _group_of(settlement: Settlement) -> object:
    return settlement.lease.token, settlement.attempts_seen
