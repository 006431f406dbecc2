"""Schedules one by one, previews, next slots, and what happened to an instant."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response

from app.routers.conditional import (
    CREATE_RESPONSES,
    READ_RESPONSES,
    WRITE_RESPONSES,
    IfMatch,
    IfNoneMatch,
    respond,
)
from app.routers.deps import HopsDep, JobId, Reader, RuntimeDep, Writer, build_location
from app.routers.examples import EDIT_SCHEDULE, NEW_SCHEDULE
from app.routers.idempotent import ReservedIdDep
from app.routers.json_route import StrictJsonRoute
from app.routers.problems import document_errors
from app.schemas.forecasts import InstantExplanation, Preview
from app.schemas.json_types import InputInstant
from app.schemas.response_bodies import ResponseBody, schedule_body, schedules_body
from app.schemas.schedules import ScheduleChange, ScheduleIn, ScheduleOut, SchedulesOut

router = APIRouter(tags=["Schedules"], route_class=StrictJsonRoute)

ScheduleId = Annotated[str, Path(description="The schedule's id.")]
Count = Annotated[int, Query(ge=1, le=100, description="The number of slots.")]
_EDIT: dict[str, Any] = {
    "response_model": ScheduleOut,
    "responses": {
        **WRITE_RESPONSES,
        **document_errors(401, 403, 404, 408, 409, 412, 413, 415, 422, 503, 508),
    },
}


@router.post(
    "/schedules/preview",
    operation_id="preview_schedule",
    summary="Preview a schedule",
    response_model=Preview,
    responses=document_errors(401, 408, 409, 413, 415, 422, 503),
)
async def preview_schedule(
    runtime: RuntimeDep,
    actor: Reader,
    body: Annotated[ScheduleIn, Body(openapi_examples=NEW_SCHEDULE)],
    count: Count = 10,
) -> Response:
    """A description, warnings and the first slots of a schedule. Nothing is saved, so a viewer may
    preview too.

    The first slot is not before `start_at`. Without `start_at` it is after now.
    """
    return respond(ResponseBody.of(await runtime.forecasts.preview(body, count)))


@router.get(
    "/jobs/{job_id}/schedules",
    operation_id="list_schedules",
    summary="List a job's schedules",
    response_model=SchedulesOut,
    responses={**READ_RESPONSES, **document_errors(401, 404, 503)},
)
async def list_schedules(
    runtime: RuntimeDep, actor: Reader, job_id: JobId, if_none_match: IfNoneMatch
) -> Response:
    """All schedules of the job, at most 20. The `ETag` contains the job's revision."""
    job = await runtime.jobs.get(actor, job_id)
    return respond(schedules_body(job), if_none_match=if_none_match)


@router.post(
    "/jobs/{job_id}/schedules",
    operation_id="create_schedule",
    summary="Add a schedule to a job",
    status_code=201,
    response_model=ScheduleOut,
    responses={
        **CREATE_RESPONSES,
        **document_errors(401, 403, 404, 408, 409, 412, 413, 415, 422, 503, 508),
    },
)
async def create_schedule(
    runtime: RuntimeDep,
    actor: Writer,
    job_id: JobId,
    accepted: IfMatch,
    reserved: ReservedIdDep,
    hops: HopsDep,
    body: Annotated[ScheduleIn, Body(openapi_examples=NEW_SCHEDULE)],
    request: Request,
) -> Response:
    """Add a schedule. Its first slot is after now and not before `start_at`."""
    job, schedule = await runtime.schedules.add(
        actor, job_id, body, accepted=accepted, reserved=reserved, hops=hops
    )
    headers = build_location(request, f"/schedules/{schedule.id}")
    return respond(schedule_body(job, schedule), 201, headers=headers)


@router.get(
    "/schedules/{schedule_id}",
    operation_id="get_schedule",
    summary="Read a schedule",
    response_model=ScheduleOut,
    responses={**READ_RESPONSES, **document_errors(401, 404, 503)},
)
async def get_schedule(
    runtime: RuntimeDep, actor: Reader, schedule_id: ScheduleId, if_none_match: IfNoneMatch
) -> Response:
    """One schedule and the id of its job. The `ETag` contains the job's revision."""
    job, schedule = await runtime.schedules.get(actor, schedule_id)
    return respond(schedule_body(job, schedule), if_none_match=if_none_match)


@router.put(
    "/schedules/{schedule_id}", operation_id="update_schedule", summary="Edit a schedule", **_EDIT
)
async def update_schedule(
    runtime: RuntimeDep,
    actor: Writer,
    schedule_id: ScheduleId,
    accepted: IfMatch,
    hops: HopsDep,
    body: Annotated[ScheduleChange, Body(openapi_examples=EDIT_SCHEDULE)],
) -> Response:
    """Change the fields that the body names; the others stay. The same as PATCH.

    Slots that are due by the old rule are recorded first. An edit that does not change when the
    schedule is due does not affect pending slots. Another `type` requires that type's fields.
    """
    job, schedule = await runtime.schedules.edit(
        actor, schedule_id, body, accepted=accepted, hops=hops
    )
    return respond(schedule_body(job, schedule))


@router.patch(
    "/schedules/{schedule_id}", operation_id="patch_schedule", summary="Edit a schedule", **_EDIT
)
async def patch_schedule(
    runtime: RuntimeDep,
    actor: Writer,
    schedule_id: ScheduleId,
    accepted: IfMatch,
    hops: HopsDep,
    body: Annotated[ScheduleChange, Body(openapi_examples=EDIT_SCHEDULE)],
) -> Response:
    """Change the fields that the body names; the others stay. The same as PUT, see there."""
    job, schedule = await runtime.schedules.edit(
        actor, schedule_id, body, accepted=accepted, hops=hops
    )
    return respond(schedule_body(job, schedule))


@router.delete(
    "/schedules/{schedule_id}",
    operation_id="delete_schedule",
    summary="Delete a schedule",
    status_code=204,
    response_class=Response,
    responses=document_errors(401, 403, 404, 409, 412, 422, 503),
)
async def delete_schedule(
    runtime: RuntimeDep, actor: Writer, schedule_id: ScheduleId, accepted: IfMatch
) -> Response:
    """Delete the schedule. Its queued and running executions continue."""
    await runtime.schedules.delete(actor, schedule_id, accepted=accepted)
    return Response(status_code=204)


@router.get(
    "/jobs/{job_id}/next-runs",
    operation_id="list_next_runs",
    summary="List the next slots of a job",
    response_model=Preview,
    responses=document_errors(401, 404, 422, 503),
)
async def list_next_runs(
    runtime: RuntimeDep, actor: Reader, job_id: JobId, count: Count = 10
) -> Response:
    """The next slots of all active schedules, in order. A paused job has none."""
    return respond(ResponseBody.of(await runtime.forecasts.next_runs(actor, job_id, count)))


@router.get(
    "/jobs/{job_id}/why",
    operation_id="explain_instant",
    summary="Explain what happened to an instant",
    response_model=InstantExplanation,
    responses=document_errors(401, 404, 422, 503),
)
async def explain_instant(
    runtime: RuntimeDep,
    actor: Reader,
    job_id: JobId,
    at: Annotated[InputInstant, Query(description="The instant, with an offset.")],
) -> Response:
    """For each schedule of the job: whether this instant is a slot, and what the records say about
    the slot.

    If the instant is not a slot, `slot_before` and `slot_after` are the nearest instants of the
    trigger, without the bounds of the schedule.
    """
    return respond(ResponseBody.of(await runtime.forecasts.explain(actor, job_id, at)))
