"""Pages of listings: order, start position, and the cursor of the next page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from app.models.execution import Execution
from app.models.ids import is_id
from app.models.job import Job, fold
from app.repositories.job_listings import JobPageStart
from app.schemas.executions import ExecutionQuery
from app.schemas.jobs import JobQuery, JobSort
from app.schemas.pages import (
    decode_cursor,
    decode_execution_cursor,
    encode_cursor,
    encode_execution_cursor,
    make_cursor_error,
)

Item = TypeVar("Item")

_BY_NAME = frozenset({JobSort.NAME, JobSort.NAME_REVERSED})
_DESCENDING = frozenset({JobSort.NEWEST, JobSort.NAME_REVERSED})


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """The items of a page in order, and the cursor of the next page; None on the last page."""

    items: Sequence[Item]
    next_cursor: str | None


def make_page(found: Sequence[Item], limit: int, cursor_of: Callable[[Item], str]) -> Listing[Item]:
    """The page of at most `limit` items. `found` has one item more if another page follows."""
    if len(found) <= limit:
        return Listing(found, None)
    return Listing(found[:limit], cursor_of(found[limit - 1]))


def read_job_page_start(query: JobQuery) -> JobPageStart:
    """The order of the listing, and the position where the page starts.

    Raises InvalidInputError for a cursor of a listing with other filters or another sort.
    """
    by_name, descending = query.order in _BY_NAME, query.order in _DESCENDING
    if query.cursor is None:
        return JobPageStart(by_name=by_name, descending=descending)
    match decode_cursor(_job_query_identity(query), query.cursor):
        case [job_id] if is_id(job_id) and not by_name:
            return JobPageStart(descending=descending, after_id=job_id)
        case [job_id, name] if is_id(job_id) and by_name:
            return JobPageStart(
                by_name=True, descending=descending, after_id=job_id, after_name=fold(name)
            )
    raise make_cursor_error()


def cursor_after_job(job: Job, query: JobQuery) -> str:
    """The cursor of the page that follows the job."""
    # Not the folded name: NFKC makes 18 letters of one, so it may be too long for a URL.
    position = [job.id, job.name] if query.order in _BY_NAME else [job.id]
    return encode_cursor(_job_query_identity(query), position)


def read_execution_page_start(query: ExecutionQuery) -> tuple[datetime, str] | None:
    """The slot and the id of the execution that the page follows; None for the first page.

    Raises InvalidInputError for a cursor of a listing with other filters.
    """
    if query.cursor is None:
        return None
    return decode_execution_cursor(_execution_query_identity(query), query.cursor)


def cursor_after_execution(execution: Execution, query: ExecutionQuery) -> str:
    """The cursor of the page that follows the execution."""
    identity = _execution_query_identity(query)
    return encode_execution_cursor(identity, execution.scheduled_for, execution.id)


def _job_query_identity(query: JobQuery) -> str:
    """The parts of the query that all pages of a listing share."""
    filters = query.model_dump(mode="json", exclude={"limit", "cursor", "sort"})
    return f"{query.order} {sorted(filters.items())}"


def _execution_query_identity(query: ExecutionQuery) -> str:
    return query.model_dump_json(exclude={"cursor", "limit"})
