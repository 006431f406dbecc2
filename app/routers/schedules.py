"""Schedules: a job's, one by one; previews; what became of an instant."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response
from pydantic import BaseModel

from app.models.job import Job
from app.models.schedule import Schedule
from app.routers.conditional import CREATED, READ, WRITTEN, IfMatch, IfNoneMatch, answer
from app.routers.deps import JobId, Reader, RuntimeDep, Writer, location
from app.routers.examples import EDIT_SCHEDULE, NEW_SCHEDULE
from app.routers.idempotent import ReservedDep
from app.routers.json_route import StrictJsonRoute
from app.routers.problems import documented
from app.schemas.etags import View
from app.schemas.json_types import InputInstant
from app.schemas.schedules import (
    Preview,
    ScheduleChange,
    ScheduleIn,
    ScheduleOut,
    SchedulesOut,
    Why,
    shown_schedule,
)

router = APIRouter(tags=["Schedules"], route_class=StrictJsonRoute)

ScheduleId = Annotated[str, Path(description="The schedule's id.")]
Count = Annotated[int, Query(ge=1, le=100, description="How many slots.")]
_EDIT: dict[str, Any] = {
    "response_model": ScheduleOut,
    "responses": {**WRITTEN, **documented(401, 403, 404, 408, 409, 412, 413, 415, 422, 503)},
}


@router.post(
    "/schedules/preview",
    operation_id="preview_schedule",
    summary="Preview a schedule",
    response_model=Preview,
    responses=documented(401, 403, 408, 409, 413, 415, 422, 503),
)
async def preview_schedule(
    runtime: RuntimeDep,
    actor: Writer,
    body: Annotated[ScheduleIn, Body(openapi_examples=NEW_SCHEDULE)],
    count: Count = 10,
) -> Response:
    """What a schedule would do, in words, warnings and its first slots; nothing is saved.

    The slots begin at `start_at`, else now.
    """
    return _json(await runtime.schedules.preview(body, count))


@router.get(
    "/jobs/{job_id}/schedules",
    operation_id="list_schedules",
    summary="List a job's schedules",
    response_model=SchedulesOut,
    responses={**READ, **documented(401, 404, 503)},
)
async def list_schedules(
    runtime: RuntimeDep, actor: Reader, job_id: JobId, if_none_match: IfNoneMatch
) -> Response:
    """All of them, at most 20. The `ETag` carries the job's revision."""
    job = await runtime.schedules.list_of(actor, job_id)
    items = [shown_schedule(job.id, schedule) for schedule in job.schedules]
    shown = View.of(SchedulesOut(items=items), job.revision)
    return answer(shown, if_none_match=if_none_match)


@router.post(
    "/jobs/{job_id}/schedules",
    operation_id="create_schedule",
    summary="Add a schedule to a job",
    status_code=201,
    response_model=ScheduleOut,
    responses={**CREATED, **documented(401, 403, 404, 408, 409, 412, 413, 415, 422, 503)},
)
async def create_schedule(
    runtime: RuntimeDep,
    actor: Writer,
    job_id: JobId,
    accepted: IfMatch,
    reserved: ReservedDep,
    body: Annotated[ScheduleIn, Body(openapi_examples=NEW_SCHEDULE)],
    request: Request,
) -> Response:
    """Its first slot is the first after now and not before `start_at`."""
    job, schedule = await runtime.schedules.add(
        actor, job_id, body, accepted=accepted, reserved=reserved
    )
    there = location(request, f"/schedules/{schedule.id}")
    return answer(_view_of(job, schedule), 201, headers=there)


@router.get(
    "/schedules/{schedule_id}",
    operation_id="get_schedule",
    summary="Read a schedule",
    response_model=ScheduleOut,
    responses={**READ, **documented(401, 404, 503)},
)
async def get_schedule(
    runtime: RuntimeDep, actor: Reader, schedule_id: ScheduleId, if_none_match: IfNoneMatch
) -> Response:
    """One schedule and the id of its job, whose revision is the schedule's."""
    shown = _view_of(*await runtime.schedules.get(actor, schedule_id))
    return answer(shown, if_none_match=if_none_match)


@router.put(
    "/schedules/{schedule_id}", operation_id="update_schedule", summary="Edit a schedule", **_EDIT
)
async def update_schedule(
    runtime: RuntimeDep,
    actor: Writer,
    schedule_id: ScheduleId,
    accepted: IfMatch,
    body: Annotated[ScheduleChange, Body(openapi_examples=EDIT_SCHEDULE)],
) -> Response:
    """What the body names is changed, what it leaves out stays; the same as PATCH.

    What is due by the old rule is fired first; an edit that does not change when the schedule is
    due leaves what is pending alone. Another `type` needs that type's fields.
    """
    edited = await runtime.schedules.edit(actor, schedule_id, body, accepted=accepted)
    return answer(_view_of(*edited))


@router.patch(
    "/schedules/{schedule_id}", operation_id="patch_schedule", summary="Edit a schedule", **_EDIT
)
async def patch_schedule(
    runtime: RuntimeDep,
    actor: Writer,
    schedule_id: ScheduleId,
    accepted: IfMatch,
    body: Annotated[ScheduleChange, Body(openapi_examples=EDIT_SCHEDULE)],
) -> Response:
    """What the body names is changed, what it leaves out stays; the same as PUT, see there."""
    edited = await runtime.schedules.edit(actor, schedule_id, body, accepted=accepted)
    return answer(_view_of(*edited))


@router.delete(
    "/schedules/{schedule_id}",
    operation_id="delete_schedule",
    summary="Delete a schedule",
    status_code=204,
    response_class=Response,
    responses=documented(401, 403, 404, 409, 412, 422, 503),
)
async def delete_schedule(
    runtime: RuntimeDep, actor: Writer, schedule_id: ScheduleId, accepted: IfMatch
) -> Response:
    """Take the schedule from its job. What is queued or running of it goes on."""
    await runtime.schedules.delete(actor, schedule_id, accepted=accepted)
    return Response(status_code=204)


@router.get(
    "/jobs/{job_id}/next-runs",
    operation_id="list_next_runs",
    summary="The coming slots of a job",
    response_model=Preview,
    responses=documented(401, 404, 422, 503),
)
async def list_next_runs(
    runtime: RuntimeDep, actor: Reader, job_id: JobId, count: Count = 10
) -> Response:
    """Of all its active schedules, in order; a paused job has none."""
    return _json(await runtime.schedules.next_runs(actor, job_id, count))


@router.get(
    "/jobs/{job_id}/why",
    operation_id="explain_instant",
    summary="What became of an instant",
    response_model=Why,
    responses=documented(401, 404, 422, 503),
)
async def explain_instant(
    runtime: RuntimeDep,
    actor: Reader,
    job_id: JobId,
    at: Annotated[InputInstant, Query(description="The instant, with an offset.")],
) -> Response:
    """For each schedule of the job: whether it had a slot at this instant, and what became of it,
    from the records. Where it had none, the slots before and after are named."""
    return _json(await runtime.schedules.why(actor, job_id, at))


def _view_of(job: Job, schedule: Schedule) -> View:
    return View.of(shown_schedule(job.id, schedule), job.revision)


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")
