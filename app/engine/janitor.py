"""Deletes old history page by page, by two rules: the janitor by age, the trimmer by count per job.

A job's last success and last failure are kept.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from app.models.finished_execution import FinishedExecution
from app.policies.retention import (
    MIN_AGE,
    select_advanced,
    select_deletable,
    select_newest_of_groups,
)
from app.repositories.history import HistoryRepository

_log = structlog.get_logger(__name__)

_PAGE = 500
_BETWEEN_PAGES = timedelta(milliseconds=200)
"""The pause after a page. The janitor of a process deletes at most 2,500 executions per second; a
tick of the trimmer deletes fewer than 20 pages."""
_BETWEEN_PASSES = timedelta(minutes=10)
_JOBS = 20


class Janitor:
    """Deletes executions that finished longer than `retention` ago. Any number may run at once.

    A tick continues after the page of the last tick, because executions that are kept would
    otherwise fill the first page every time.
    """

    def __init__(self, *, history: HistoryRepository, retention: timedelta) -> None:
        self._history = history
        self._retention = max(retention, MIN_AGE)
        self._reached: FinishedExecution | None = None

    async def tick(self) -> timedelta:
        """Delete one page."""
        before = await self._history.now() - self._retention
        page = await self._history.list_finished(before=before, after=self._reached, limit=_PAGE)
        await _delete(self._history, page)
        if len(page) < _PAGE:
            self._reached = None
            return _BETWEEN_PASSES
        self._reached = page[-1]
        return _BETWEEN_PAGES


class Trimmer:
    """Deletes all but the newest `keep` executions of each job. Any number may run at once.

    A pass walks over the jobs; for each it examines as many index keys as the job may keep.
    """

    def __init__(self, *, history: HistoryRepository, keep: int) -> None:
        self._history = history
        self._keep = keep
        self._reached: str | None = None

    async def tick(self) -> timedelta:
        """Trim up to 20 jobs, at most one page of history per job.

        The tick ends at a job with a full page; the next tick continues with this job.
        """
        before = await self._history.now() - MIN_AGE
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


async def _delete(history: HistoryRepository, page: Sequence[FinishedExecution]) -> int:
    """Delete the deletable executions of a page; returns how many."""
    if not page:
        return 0
    next_runs = await history.list_next_runs({execution.job_id for execution in page})
    page = select_advanced(page, next_runs)
    superseded = {
        last.execution.id: await history.has_newer(last.execution, last.statuses)
        for last in select_newest_of_groups(page)
    }
    deleted = await history.delete(select_deletable(page, superseded))
    if deleted:
        _log.info("history_deleted", executions=deleted, examined=len(page))
    return deleted
