"""The janitor: deletes old history, a page at a time, and keeps what a person would miss."""

from datetime import timedelta

import structlog

from app.models.past import Past
from app.policies.retention import YOUNGEST, deletable, newest_lasting
from app.repositories.history import HistoryRepository

_log = structlog.get_logger(__name__)

_PAGE = 500
_BETWEEN_PAGES = timedelta(milliseconds=200)  # at most 2,500 deletions a second a process
_BETWEEN_PASSES = timedelta(minutes=10)


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
        if page:
            superseded = {
                last.past.id: await self._history.has_newer(last.past, last.statuses)
                for last in newest_lasting(page)
            }
            deleted = await self._history.delete(deletable(page, superseded))
            _log.info("history_deleted", executions=deleted, looked_at=len(page))
        if len(page) < _PAGE:
            self._reached = None
            return _BETWEEN_PASSES
        self._reached = page[-1]
        return _BETWEEN_PAGES
