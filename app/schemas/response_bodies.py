"""Response bodies: the one way from jobs, schedules and executions to JSON bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel

from app.models.execution import Execution
from app.models.job import Job
from app.models.schedule import Schedule
from app.schemas.etags import etag_of
from app.schemas.executions import ExecutionOut
from app.schemas.jobs import JobOut
from app.schemas.pages import Page
from app.schemas.schedules import SchedulesOut, schedule_out


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


def job_page_body(
    jobs: Sequence[Job], next_cursor: str | None, *, max_timeout_seconds: float
) -> ResponseBody:
    items = [JobOut.of(job, max_timeout_seconds=max_timeout_seconds) for job in jobs]
    page = Page[JobOut](items=items, next_cursor=next_cursor)
    return ResponseBody.with_etag(page)


def schedule_body(job: Job, schedule: Schedule) -> ResponseBody:
    return ResponseBody.with_etag(schedule_out(job.id, schedule), job.revision)


def schedules_body(job: Job) -> ResponseBody:
    items = [schedule_out(job.id, schedule) for schedule in job.schedules]
    return ResponseBody.with_etag(SchedulesOut(items=items), job.revision)


def execution_body(execution: Execution) -> ResponseBody:
    return ResponseBody.of(ExecutionOut.of(execution))


def execution_page_body(executions: Sequence[Execution], next_cursor: str | None) -> ResponseBody:
    items = [ExecutionOut.of(execution) for execution in executions]
    return ResponseBody.of(Page[ExecutionOut](items=items, next_cursor=next_cursor))
