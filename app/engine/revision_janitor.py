"""Deletes the earlier parameters of jobs to which no execution refers any more."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app.policies.retention import MIN_AGE
from app.repositories.execution_listings import HistoryPosition
from app.repositories.replaced_revisions import ReplacedRevisionRepository

_log = structlog.get_logger(__name__)

_RECORDS = 50
_EXECUTIONS = 500
_BETWEEN_PAGES = timedelta(milliseconds=200)
_BETWEEN_PASSES = timedelta(hours=6)


@dataclass(slots=True)
class _Scan:
    """A walk over the executions of one job, to find which of its records they refer to."""

    job_id: str
    before: datetime
    unused: dict[int, str]
    """By revision: the records to which no execution refers that was read so far."""
    reached: HistoryPosition | None = None


class RevisionJanitor:
    """Walks over the records, job by job. Any number may run at once.

    Records that are younger than `MIN_AGE` stay: an attempt records its revision at most a lease
    after it has read the job, so no further execution refers to an older record. An execution keeps
    its place in the history of its job, so a scan misses none that existed before it.
    """

    def __init__(self, *, revisions: ReplacedRevisionRepository) -> None:
        self._revisions = revisions
        self._reached: str | None = None
        self._scan: _Scan | None = None

    async def tick(self) -> timedelta:
        """Read one page of executions, or one of records if no job is being examined."""
        if self._scan is not None:
            await self._continue(self._scan)
            return _BETWEEN_PAGES
        before = await self._revisions.now() - MIN_AGE
        page = await self._revisions.list_records(after=self._reached, limit=_RECORDS)
        old = [record for record in page.records if record.replaced_at < before]
        if not old:
            self._reached = page.reached
            return _BETWEEN_PASSES if page.reached is None else _BETWEEN_PAGES
        of_job = [record for record in old if record.job_id == old[0].job_id]
        self._reached = of_job[-1].id
        self._scan = _Scan(old[0].job_id, before, {one.revision: one.id for one in of_job})
        return _BETWEEN_PAGES

    async def _continue(self, scan: _Scan) -> None:
        """Read the next page of executions. At the end delete what none of them refers to."""
        used = await self._revisions.list_used(scan.job_id, after=scan.reached, limit=_EXECUTIONS)
        scan.reached = used.reached
        for revision in used.revisions:
            scan.unused.pop(revision, None)
        if scan.reached is not None and scan.unused:
            return
        self._scan = None
        if scan.unused and used.is_complete:
            record_ids = list(scan.unused.values())
            deleted = await self._revisions.delete(record_ids, before=scan.before)
            _log.info("job_revisions_deleted", job_id=scan.job_id, count=deleted)
