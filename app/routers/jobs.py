"""Jobs: create, list, read, edit, pause, resume, delete."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response

from app.routers.conditional import (
    CREATE_RESPONSES,
    READ_RESPONSES,
    WRITE_RESPONSES,
    IfMatch,
    IfNoneMatch,
    respond,
)
from app.routers.deps import HopsDep, JobId, Reader, RuntimeDep, Writer, build_location
from app.routers.examples import EDIT_JOB, NEW_JOB
from app.routers.idempotent import ReservedIdDep
from app.routers.json_route import StrictJsonRoute
from app.routers.problems import document_errors
from app.schemas.jobs import JobCreate, JobOut, JobPage, JobQuery, JobUpdate

router = APIRouter(prefix="/jobs", tags=["Jobs"], route_class=StrictJsonRoute)


_EDIT: dict[str, Any] = {
    "response_model": JobOut,
    "responses": {
        **WRITE_RESPONSES,
        **document_errors(401, 403, 404, 408, 409, 412, 413, 415, 422, 503, 508),
    },
}


@router.post(
    "",
    operation_id="create_job",
    summary="Create a job",
    status_code=201,
    response_model=JobOut,
    responses={**CREATE_RESPONSES, **document_errors(401, 403, 408, 409, 413, 415, 422, 503, 508)},
)
async def create_job(
    runtime: RuntimeDep,
    actor: Writer,
    body: Annotated[JobCreate, Body(openapi_examples=NEW_JOB)],
    reserved: ReservedIdDep,
    hops: HopsDep,
    request: Request,
) -> Response:
    """Create a job with its target, policies and schedules.

    `schedules` is a list of schedules. A single schedule can also have a short form, see the
    examples. A job without schedules runs only by `execute`.
    """
    job = await runtime.jobs.create(actor, body, reserved=reserved, hops=hops)
    return respond(
        runtime.cached_jobs.make_body(job), 201, headers=build_location(request, f"/jobs/{job.id}")
    )


@router.get(
    "",
    operation_id="list_jobs",
    summary="List jobs",
    response_model=JobPage,
    responses={**READ_RESPONSES, **document_errors(401, 422, 503)},
)
async def list_jobs(
    runtime: RuntimeDep,
    actor: Reader,
    query: Annotated[JobQuery, Query()],
    if_none_match: IfNoneMatch,
) -> Response:
    """Your jobs, by default the newest first (by name with `q`). An admin sees the jobs of all
    users.

    The items are partial: without `parameters`, and without `headers` and `body` of their target.
    `fields=full` returns whole items. A page ends at about 4 MB, so it may have fewer items than
    `limit`: another page follows if `next_cursor` is not null. A `next_cursor` is valid only with
    the same filters and sort.

    Users' changes show immediately; `next_run`, `last_run` and `last_status` may be 3 s old.
    """
    async with runtime.large_reads.enter(actor.user_id):
        body = await runtime.cached_jobs.list_jobs(actor, query)
    return respond(body, if_none_match=if_none_match)


@router.get(
    "/{job_id}",
    operation_id="get_job",
    summary="Read a job",
    response_model=JobOut,
    responses={**READ_RESPONSES, **document_errors(401, 404, 503)},
)
async def get_job(
    runtime: RuntimeDep, actor: Reader, job_id: JobId, if_none_match: IfNoneMatch
) -> Response:
    """One job. Users' changes show immediately; `next_run`, `last_run` and `last_status` may be
    3 s old."""
    body = await runtime.cached_jobs.get_job(actor, job_id)
    return respond(body, if_none_match=if_none_match)


@router.put("/{job_id}", operation_id="update_job", summary="Edit a job", **_EDIT)
async def update_job(
    runtime: RuntimeDep,
    actor: Writer,
    job_id: JobId,
    accepted: IfMatch,
    hops: HopsDep,
    body: Annotated[JobUpdate, Body(openapi_examples=EDIT_JOB)],
) -> Response:
    """Change the fields that the body names; the others stay. The same as PATCH.

    `retry`, `catch_up` and a `target` of the same type are merged field by field. `schedules`
    replaces the list; a schedule with its `id`, or an identical one, keeps its identity. A short
    form changes the job's only schedule. An edit that does not change when the job is due does not
    affect pending slots.
    """
    return respond(
        runtime.cached_jobs.make_body(
            await runtime.jobs.edit(actor, job_id, body, accepted=accepted, hops=hops)
        )
    )


@router.patch("/{job_id}", operation_id="patch_job", summary="Edit a job", **_EDIT)
async def patch_job(
    runtime: RuntimeDep,
    actor: Writer,
    job_id: JobId,
    accepted: IfMatch,
    hops: HopsDep,
    body: Annotated[JobUpdate, Body(openapi_examples=EDIT_JOB)],
) -> Response:
    """Change the fields that the body names; the others stay. The same as PUT, see there."""
    return respond(
        runtime.cached_jobs.make_body(
            await runtime.jobs.edit(actor, job_id, body, accepted=accepted, hops=hops)
        )
    )


@router.delete(
    "/{job_id}",
    operation_id="delete_job",
    summary="Delete a job",
    status_code=204,
    response_class=Response,
    responses=document_errors(401, 403, 404, 409, 412, 422, 503),
)
async def delete_job(
    runtime: RuntimeDep, actor: Writer, job_id: JobId, accepted: IfMatch
) -> Response:
    """Delete the job and cancel its queued and running executions. Its history stays readable."""
    await runtime.jobs.delete(actor, job_id, accepted=accepted)
    return Response(status_code=204)


@router.post(
    "/{job_id}/activate",
    operation_id="activate_job",
    summary="Resume a job",
    response_model=JobOut,
    responses={**WRITE_RESPONSES, **document_errors(401, 403, 404, 408, 409, 412, 413, 422, 503)},
)
async def activate_job(
    runtime: RuntimeDep, actor: Writer, job_id: JobId, accepted: IfMatch
) -> Response:
    """Resume a paused job. Slots that passed while it was paused do not run."""
    return respond(
        runtime.cached_jobs.make_body(await runtime.jobs.resume(actor, job_id, accepted=accepted))
    )


@router.post(
    "/{job_id}/deactivate",
    operation_id="deactivate_job",
    summary="Pause a job",
    response_model=JobOut,
    responses={**WRITE_RESPONSES, **document_errors(401, 403, 404, 408, 409, 412, 413, 422, 503)},
)
async def deactivate_job(
    runtime: RuntimeDep, actor: Writer, job_id: JobId, accepted: IfMatch
) -> Response:
    """Pause a job: it has no new slots. Queued and running executions continue."""
    return respond(
        runtime.cached_jobs.make_body(await runtime.jobs.pause(actor, job_id, accepted=accepted))
    )
