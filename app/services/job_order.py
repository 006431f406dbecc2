"""Where a page of a job listing begins: its order, and the cursors that are bound to the query."""

from app.models.ids import is_id
from app.models.job import Job
from app.repositories.jobs import JobOrder
from app.schemas.jobs import JobQuery, JobSort
from app.schemas.pages import bound_cursor, cursor_refusal, read_bound_cursor

_BY_NAME = frozenset({JobSort.NAME, JobSort.NAME_REVERSED})
_DESCENDING = frozenset({JobSort.NEWEST, JobSort.NAME_REVERSED})


def order_of(query: JobQuery) -> JobOrder:
    """The order, and the place to go on after. Raises InvalidInputError for a cursor that did
    not come from the same filters and sort."""
    by_name, descending = query.order in _BY_NAME, query.order in _DESCENDING
    if query.cursor is None:
        return JobOrder(by_name=by_name, descending=descending)
    match read_bound_cursor(_same(query), query.cursor):
        case [job_id] if is_id(job_id) and not by_name:
            return JobOrder(descending=descending, after_id=job_id)
        case [job_id, name] if is_id(job_id) and by_name:
            return JobOrder(by_name=True, descending=descending, after_id=job_id, after_name=name)
    raise cursor_refusal()


def cursor_after(job: Job, query: JobQuery) -> str:
    """The cursor of the page after the job."""
    position = [job.id, job.folded_name] if query.order in _BY_NAME else [job.id]
    return bound_cursor(_same(query), position)


def _same(query: JobQuery) -> str:
    """What must not change from page to page."""
    named = query.model_dump(mode="json", exclude={"limit", "cursor", "sort"})
    return f"{query.order} {sorted(named.items())}"
