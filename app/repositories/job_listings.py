"""The queries of job listings: which jobs, in which order, by which index. No I/O."""

from dataclasses import dataclass

from pymongo import ASCENDING, DESCENDING

from app.models.execution import ExecutionStatus
from app.models.job import Job
from app.repositories.documents import known
from app.repositories.mongo import Document
from app.repositories.pages import Range

_AFTER_EVERY_TEXT = "\U0010ffff"

LARGE_FIELDS = ("parameters", "target.body", "target.headers")
"""The fields of a job that a partial listing leaves out."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a listing shows. None means any."""

    owner_id: str | None = None
    active: bool | None = None
    tag: str | None = None
    target_type: str | None = None
    last_status: ExecutionStatus | None = None
    folded_prefix: str | None = None
    """The beginning of the folded name."""


@dataclass(frozen=True, slots=True)
class JobPageStart:
    """The start of a page: the order of the listing, and the job after which the page starts."""

    by_name: bool = False
    descending: bool = True
    after_id: str | None = None
    after_name: str = ""
    """The folded name of the job `after_id`. Used only if `by_name` is true."""


NEWEST_FIRST = JobPageStart()


def listing_of(wanted: JobFilter, start: JobPageStart) -> Range:
    """The range of a listing from `start` on."""
    query = known(Job) | owned_by(wanted.owner_id)
    optional: Document = {
        "active": wanted.active,
        "tags": wanted.tag,
        "target.type": wanted.target_type,
        "last_status": wanted.last_status,
    }
    query |= {field: value for field, value in optional.items() if value is not None}
    prefix = wanted.folded_prefix
    if prefix is not None:
        query["folded_name"] = {"$gte": prefix, "$lt": prefix + _AFTER_EVERY_TEXT}
    _start_after(query, start)
    direction = DESCENDING if start.descending else ASCENDING
    owned = wanted.owner_id is not None
    if start.by_name:
        hint = "by_owner_and_name" if owned else "by_name"
        return Range(query, {"folded_name": direction, "_id": direction}, hint)
    if wanted.tag is not None:
        hint = "by_owner_and_tag" if owned else "by_tag"
    else:
        hint = "by_owner" if owned else "_id_"
    return Range(query, {"_id": direction}, hint)


def _start_after(query: Document, start: JobPageStart) -> None:
    """Narrow the query to the jobs after the start."""
    if start.after_id is None:
        return
    beyond = "$lt" if start.descending else "$gt"
    if not start.by_name:
        query["_id"] = {beyond: start.after_id}
        return
    # The range on the name bounds the index; the `$or` only decides among equal names.
    names = query.setdefault("folded_name", {})
    bound = f"{beyond}e"  # `$lte` or `$gte`
    bounds = [start.after_name, *([names[bound]] if bound in names else [])]
    names[bound] = min(bounds) if start.descending else max(bounds)
    query["$or"] = [
        {"folded_name": {beyond: start.after_name}},
        {"folded_name": start.after_name, "_id": {beyond: start.after_id}},
    ]


def owned_by(owner_id: str | None) -> Document:
    """The condition on the owner. With `owner_id` None the jobs may belong to any owner."""
    return {} if owner_id is None else {"owner_id": owner_id}
