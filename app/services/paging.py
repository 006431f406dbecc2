"""Pages of listings: order, start position, and the cursor of the next page."""

from datetime import datetime

from app.models.execution import Execution
from app.models.ids import is_id
from app.models.job import Job, fold
from app.repositories.job_listings import JobPageStart
from app.schemas.executions import ExecutionQuery
from app.schemas.jobs import JobQuery, JobSort
from app.schemas.pages import (
    NOT_IN_CURSOR,
    decode_cursor,
    decode_execution_cursor,
    encode_cursor,
    encode_execution_cursor,
    make_cursor_error,
)

_BY_NAME = frozenset({JobSort.NAME, JobSort.NAME_REVERSED})
_DESCENDING = frozenset({JobSort.NEWEST, JobSort.NAME_REVERSED})


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
    filters = query.model_dump(mode="json", exclude={*NOT_IN_CURSOR, "sort"})
    return f"{query.order} {sorted(filters.items())}"


def _execution_query_identity(query: ExecutionQuery) -> str:
    return query.model_dump_json(exclude=set(NOT_IN_CURSOR))
