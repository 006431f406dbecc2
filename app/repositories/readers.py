"""Readers of stored jobs and executions: one unreadable document harms only itself.

Each document is decoded by itself. An execution that cannot be read ends `failed`, a job that
cannot be read is paused, both with the reason `unreadable`, by whoever reads it first. So no loop
finds it again in each round. Documents of a newer release are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import structlog
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from app.errors import UnreadableDocumentError
from app.models.execution import FINAL_STATUSES, Execution, ExecutionStatus, Reason
from app.models.job import Job, PauseReason
from app.repositories import cancellation
from app.repositories.batches import describe_rejection, is_rejection
from app.repositories.documents import Decoded, Unreadable, decode_many, from_document, known
from app.repositories.mongo import Database, Document, is_outage

_log = structlog.get_logger(__name__)


class ExecutionReader:
    """Decodes executions, and ends those that cannot be read.

    The reaper promotes an execution that waited for one of these.
    """

    def __init__(self, database: Database) -> None:
        self._clock = database.clock
        self._executions = database.collection("executions")
        self._jobs = database.collection("jobs")

    async def read(self, documents: Sequence[Document]) -> list[Execution]:
        """The readable ones. Those of a newer release are left out as well."""
        return (await self.read_and_count(documents))[0]

    async def read_and_count(self, documents: Sequence[Document]) -> tuple[list[Execution], int]:
        """The readable ones, and how many of the others this call has ended."""
        decoded = decode_many(Execution, documents)
        ended = await self.end([one for one in decoded.unreadable if not _is_final(one)])
        return decoded.records, ended

    async def read_one(self, document: Document) -> Execution:
        """Raises NewerDocumentError and UnreadableDocumentError."""
        try:
            return from_document(Execution, document)
        except UnreadableDocumentError:
            await self.read([document])
            raise

    async def end_rejected(self, execution_id: str, error: Exception) -> None:
        """End an execution for which the database rejects every other write. Raises an error that
        is a bug."""
        if not is_rejection(error):
            raise error
        fields = {"job_id": True, "scheduled_for": True}
        document = await self._executions.find_one({"_id": execution_id}, fields)
        if document is not None:
            await self.end([Unreadable(document, f"rejected: {describe_rejection(error)}")])

    async def end(self, unreadable: Sequence[Unreadable]) -> int:
        """End these executions as `failed`; returns how many this call has ended."""
        ended = [one for one in unreadable if await self._try_end(one.document["_id"])]
        for one in ended:
            _log.error(
                "execution_unreadable",
                execution_id=one.document["_id"],
                job_id=one.document.get("job_id"),
                problem=one.problem,
                status=ExecutionStatus.FAILED,
                reason=Reason.UNREADABLE,
            )
        await self._note_last_runs([one.document for one in ended])
        return len(ended)

    async def _try_end(self, execution_id: str) -> bool:
        """Whether this call has ended it; another process may have done so before. One write for
        each, so that each is logged once."""
        now = self._clock.now_expression
        unended = known(Execution) | {"_id": execution_id} | cancellation.CAN_FAIL_UNREADABLE
        for update in (cancellation.fail_unreadable(now), cancellation.fail_reduced(now)):
            try:
                return (await self._executions.update_one(unended, update)).modified_count == 1
            except PyMongoError as error:
                if is_outage(error):
                    raise
                problem = describe_rejection(error)
        _log.error("execution_not_ended", execution_id=execution_id, problem=problem)
        return False

    async def _note_last_runs(self, failed: Sequence[Document]) -> None:
        writes = [
            UpdateOne(
                known(Job) | {"_id": job_id, "$expr": {"$lte": ["$last_run", slot]}},
                {"$set": {"last_run": slot, "last_status": ExecutionStatus.FAILED}},
            )
            for job_id, slot in ((one.get("job_id"), one.get("scheduled_for")) for one in failed)
            if isinstance(job_id, str) and isinstance(slot, datetime)
        ]
        if writes:
            await self._jobs.bulk_write(writes, ordered=False)


@dataclass(frozen=True, slots=True)
class UnreadJob:
    """What a deletion needs of a job that cannot be read."""

    id: str
    owner_id: str
    revision: int

    @classmethod
    def of(cls, document: Document) -> Self:
        """A field that is malformed gets a value that no job has."""
        owner, revision = document.get("owner_id"), document.get("revision")
        return cls(
            document["_id"],
            owner_id=owner if isinstance(owner, str) else "",
            revision=revision if isinstance(revision, int) else 0,
        )


class JobReader:
    """Decodes jobs, and pauses those that cannot be read."""

    def __init__(self, database: Database) -> None:
        self._jobs = database.collection("jobs")

    async def read(self, documents: Sequence[Document]) -> Decoded[Job]:
        decoded = decode_many(Job, documents)
        await self._pause(decoded.unreadable)
        return decoded

    async def read_one(self, document: Document) -> Job:
        """Raises NewerDocumentError and UnreadableDocumentError."""
        try:
            return from_document(Job, document)
        except UnreadableDocumentError:
            await self.read([document])
            raise

    async def _pause(self, unreadable: Sequence[Unreadable]) -> None:
        for one in unreadable:
            job_id = one.document["_id"]
            if await self._try_pause(job_id):  # it was not paused before
                _log.error("job_unreadable", job_id=job_id, problem=one.problem)

    async def _try_pause(self, job_id: str) -> bool:
        """Whether this call has paused it. A job that has no room for the reason is only no longer
        due."""
        is_due = {"$or": [{"active": {"$ne": False}}, {"next_run": {"$ne": None}}]}
        unpaused = known(Job) | {"_id": job_id} | is_due
        paused = {"active": False, "pause_reason": PauseReason.UNREADABLE, "next_run": None}
        for update in ({"$set": paused}, {"$unset": {"next_run": True}}):
            try:
                return (await self._jobs.update_one(unpaused, update)).modified_count == 1
            except PyMongoError as error:
                if is_outage(error):
                    raise
                problem = describe_rejection(error)
        _log.error("job_not_paused", job_id=job_id, problem=problem)
        return False


def _is_final(unreadable: Unreadable) -> bool:
    status: Any = unreadable.document.get("status")
    return isinstance(status, str) and status in FINAL_STATUSES
