"""Pages of listings: order, start position, and the cursor of the next page."""

import re
from datetime import UTC, datetime, timedelta

from app.models.execution import Execution
from app.models.ids import is_id
from app.models.job import Job, fold
from app.repositories.job_listings import JobPageStart
from app.schemas.executions import ExecutionQuery
from app.schemas.jobs import JobQuery, JobSort
from app.schemas.json_types import FIRST_YEAR, LAST_YEAR
from app.schemas.pages import NOT_IN_CURSOR, decode_cursor, encode_cursor, make_cursor_error

_DIGITS = re.compile(r"[0-9]{1,15}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

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


def encode_execution_cursor(query: str, scheduled_for: datetime, execution_id: str) -> str:
    """The cursor of the page after the execution, valid only for `query`."""
    return encode_cursor(query, [str((scheduled_for - _EPOCH) // _MILLISECOND), execution_id])


def decode_execution_cursor(query: str, cursor: str) -> tuple[datetime, str]:
    """The execution's slot and id. Raises InvalidInputError."""
    match decode_cursor(query, cursor):
        case [slot, execution_id] if _DIGITS.fullmatch(slot) and is_id(execution_id):
            return _decode_instant(int(slot)), execution_id
    raise make_cursor_error()


def _job_query_identity(query: JobQuery) -> str:
    """The parts of the query that all pages of a listing share."""
    filters = query.model_dump(mode="json", exclude={*NOT_IN_CURSOR, "sort"})
    return f"{query.order} {sorted(filters.items())}"


def _execution_query_identity(query: ExecutionQuery) -> str:
    return query.model_dump_json(exclude=set(NOT_IN_CURSOR))


def _decode_instant(milliseconds: int) -> datetime:
    try:
        instant = _EPOCH + milliseconds * _MILLISECOND
    except OverflowError:
        raise make_cursor_error() from None
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise make_cursor_error()
    return instant
