"""Old history is deleted by age (the janitor) and by count a job (the trimmer), a page at a time;
what a person would miss is kept."""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from app.models.past import Past
from app.policies.retention import YOUNGEST, deletable, newest_lasting
from app.repositories.history import HistoryRepository

_log = structlog.get_logger(__name__)

_PAGE = 500
_BETWEEN_PAGES = timedelta(milliseconds=200)  # at most 2,500 deletions a second a process
_BETWEEN_PASSES = timedelta(minutes=10)
_JOBS = 20


class Janitor:
    """Deletes executions that finished longer than `retention` ago. Any number may run at once.

    A pass walks over everything that old, because what is kept for being a job's last success or
    failure stays at its beginning.
    """

    def __init__(self, *, history: HistoryRepository, retention: timedelta) -> None:
        self._history = history
        self._retention = max(retention, YOUNGEST)
        self._reached: Past | None = None

    async def tick(self) -> timedelta:
        """One page."""
        before = await self._history.now() - self._retention
        page = await self._history.list_finished(before=before, after=self._reached, limit=_PAGE)
        await _delete(self._history, page)
        if len(page) < _PAGE:
            self._reached = None
            return _BETWEEN_PASSES
        self._reached = page[-1]
        return _BETWEEN_PAGES


class Trimmer:
    """Deletes what is more than the newest `keep` executions of a job. Any number may run at once.

    A pass walks over the jobs, and of each over as many keys of an index as it may keep.
    """

    def __init__(self, *, history: HistoryRepository, keep: int) -> None:
        self._history = history
        self._keep = keep
        self._reached: str | None = None

    async def tick(self) -> timedelta:
        """A few jobs, of each at most one page of history; a job with more is met again."""
        before = await self._history.now() - YOUNGEST
        job_ids = await self._history.list_job_ids(after=self._reached, limit=_JOBS)
        for job_id in job_ids:
            surplus = await self._history.list_surplus(
                job_id, keep=self._keep, before=before, limit=_PAGE
            )
            if await _delete(self._history, surplus) and len(surplus) == _PAGE:
                return _BETWEEN_PAGES
            self._reached = job_id
        if len(job_ids) < _JOBS:
            self._reached = None
            return _BETWEEN_PASSES
        return _BETWEEN_PAGES


async def _delete(history: HistoryRepository, page: Sequence[Past]) -> int:
    """Delete what may go of a page; returns how many it were."""
    if not page:
        return 0
    superseded = {
        last.past.id: await history.has_newer(last.past, last.statuses)
        for last in newest_lasting(page)
    }
    deleted = await history.delete(deletable(page, superseded))
    if deleted:
        _log.info("history_deleted", executions=deleted, looked_at=len(page))
    return deleted
