"""Response bodies: the one way from jobs, schedules and executions to JSON bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self, TypeVar

import orjson
from pydantic import BaseModel

from app.loop_turns import wait_for_loop_turn
from app.models.execution import Execution
from app.models.job import Job
from app.models.page import PAGE_BYTES
from app.models.schedule import Schedule
from app.schemas.etags import etag_of
from app.schemas.executions import ExecutionOut, PartialExecutionOut
from app.schemas.jobs import JobOut, PartialJobOut
from app.schemas.pages import ItemFields, Listing
from app.schemas.schedules import SchedulesOut, schedule_out

_RENDERED_AT_ONCE = 20

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """JSON, and its entity tag if the response has one."""

    content: bytes
    etag: str | None = None

    @classmethod
    def of(cls, model: BaseModel) -> Self:
        """Without an entity tag."""
        return cls(model.model_dump_json().encode())

    @classmethod
    def with_etag(cls, model: BaseModel, revision: int | None = None) -> Self:
        """With an entity tag. `revision` is that of the job, if the model is one job or a part of
        one."""
        content = model.model_dump_json().encode()
        return cls(content, etag_of(content, revision))


def job_body(job: Job, *, max_timeout_seconds: float) -> ResponseBody:
    model = JobOut.of(job, max_timeout_seconds=max_timeout_seconds)
    return ResponseBody.with_etag(model, job.revision)


async def job_page_body(
    listing: Listing[Job], fields: ItemFields, *, max_timeout_seconds: float
) -> ResponseBody:
    kind = JobOut if fields is ItemFields.FULL else PartialJobOut
    show = partial(kind.of, max_timeout_seconds=max_timeout_seconds)
    content = await _render_page(listing, show)
    return ResponseBody(content, etag_of(content))


def schedule_body(job: Job, schedule: Schedule) -> ResponseBody:
    return ResponseBody.with_etag(schedule_out(job.id, schedule), job.revision)


def schedules_body(job: Job) -> ResponseBody:
    items = [schedule_out(job.id, schedule) for schedule in job.schedules]
    return ResponseBody.with_etag(SchedulesOut(items=items), job.revision)


def execution_body(execution: Execution) -> ResponseBody:
    return ResponseBody.of(ExecutionOut.of(execution))


async def execution_page_body(listing: Listing[Execution], fields: ItemFields) -> ResponseBody:
    show = ExecutionOut.of if fields is ItemFields.FULL else PartialExecutionOut.of
    return ResponseBody(await _render_page(listing, show))


async def _render_page(listing: Listing[_Item], show: Callable[[_Item], BaseModel]) -> bytes:
    """The JSON of a page, cut before the item with which it exceeds `PAGE_BYTES`.

    The database has limited the page before, but an item may be larger in JSON than it is stored:
    a control character has six bytes. Other requests get their turn after a few items.
    """
    items: list[bytes] = []
    size = 0
    for item in listing.items:
        content = show(item).model_dump_json().encode()
        size += len(content)
        if items and size > PAGE_BYTES:
            break
        items.append(content)
        if len(items) % _RENDERED_AT_ONCE == 0:
            await wait_for_loop_turn()
    next_cursor = orjson.dumps(listing.cut(len(items)).next_cursor)
    return b'{"items":[%b],"next_cursor":%b}' % (b",".join(items), next_cursor)
