"""The parameters that executions have sent: of the job at the revision of their newest attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.models.execution import Execution
from app.models.job import Job
from app.models.job_revision import JobRevision, RevisionKey
from app.repositories.job_revisions import JobRevisionRepository
from app.schemas.pages import Listing

_log = structlog.get_logger(__name__)

_HISTORY_DIVISOR = 10
"""The records of an owner take about one byte in ten of `MAX_HISTORY_BYTES_PER_OWNER`."""
_ROOM_DIVISOR = 64
"""If there is no room, so much of the limit is freed, so that the next edits need no sum."""
_MAX_AGE = timedelta(seconds=30)
"""A sum is read again after this time, because other processes store records as well."""
_MAX_OWNERS = 10_000


@dataclass(slots=True)
class _Room:
    """How many bytes an owner may still store before the next sum."""

    bytes: int
    read_at: datetime


class JobRevisionService:
    """Keeps the parameters that edits replace, and adds them to executions.

    Every method may raise UnavailableError.
    """

    def __init__(self, *, revisions: JobRevisionRepository, history_bytes_per_owner: int) -> None:
        self._revisions = revisions
        self._most_bytes = history_bytes_per_owner // _HISTORY_DIVISOR
        self._rooms: dict[str, _Room] = {}

    async def keep(self, job: Job, now: datetime) -> None:
        """Store what executions show of this revision. Call it before a write that replaces or
        deletes the job.

        If that write loses a race or never comes, the record is right nevertheless: a revision
        never changes. If the owner has too many records, the oldest ones make room.
        """
        revision = JobRevision.of(job, now)
        size = await self._revisions.store(revision)
        room = self._rooms.get(job.owner_id)
        if room is None or room.bytes < size or now - room.read_at > _MAX_AGE:
            await self._make_room(revision, now)
        else:
            room.bytes -= size

    async def _make_room(self, revision: JobRevision, now: datetime) -> None:
        """Read what the owner has stored, and delete the oldest records if that is too much."""
        owner_id = revision.owner_id
        left = self._most_bytes - await self._revisions.sum_bytes(owner_id)
        if left < 0:
            dropped = await self._revisions.drop_oldest(
                owner_id, bytes_=self._most_bytes // _ROOM_DIVISOR - left, kept_id=revision.id
            )
            _log.info("job_revisions_dropped", owner_id=owner_id, count=dropped)
        if len(self._rooms) >= _MAX_OWNERS:
            self._rooms.clear()
        self._rooms[owner_id] = _Room(max(0, left), now)

    async def add_parameters(self, execution: Execution) -> Execution:
        """The execution with the parameters that its newest attempt sent.

        They stay None without an attempt, and if they are not stored any more.
        """
        key = _find_key(execution)
        if key is None:
            return execution
        return _add(execution, await self._revisions.find_parameters([key]))

    async def add_parameters_to_page(self, listing: Listing[Execution]) -> Listing[Execution]:
        """The page with the parameters of each execution. It is cut before an execution whose
        parameters do not fit on the page."""
        keys = [key for execution in listing.items if (key := _find_key(execution)) is not None]
        found = await self._revisions.find_parameters(list(dict.fromkeys(keys)))
        missing = (
            n
            for n, execution in enumerate(listing.items)
            if (key := _find_key(execution)) is not None and key not in found
        )
        page = listing.cut(next(missing, len(listing.items)))
        items = [_add(execution, found) for execution in page.items]
        return Listing(items, page.has_more, page.cursor_after)


def _find_key(execution: Execution) -> RevisionKey | None:
    """The revision whose parameters were sent. None if there is none, because the execution has its
    own parameters or has not sent any."""
    if execution.parameters is not None or not execution.attempts:
        return None
    return RevisionKey(execution.job_id, execution.attempts[-1].job_revision)


def _add(execution: Execution, found: Mapping[RevisionKey, dict[str, Any] | None]) -> Execution:
    key = _find_key(execution)
    if key is None:
        return execution
    return execution.model_copy(update={"parameters": found[key]})
