"""Whole listings of executions, page by page."""

from app.models.execution import Execution
from app.repositories.execution_listings import ExecutionFilter
from app.repositories.executions import ExecutionRepository

_LIMIT = 1_000


async def list_all_executions(
    repository: ExecutionRepository, wanted: ExecutionFilter
) -> list[Execution]:
    """Return the executions, the oldest slot first."""
    found: list[Execution] = []
    before = None
    while True:
        page = await repository.list_executions(wanted, limit=_LIMIT, before=before)
        found += page.records
        if not page.has_more:
            return found[::-1]
        before = (found[-1].scheduled_for, found[-1].id)
