"""Executions: execute a job, read its history, cancel, retry, backfill."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request, Response

from app.loop_turns import wait_for_loop_turn
from app.models.execution import ExecutionStatus
from app.routers.conditional import respond
from app.routers.deps import (
    LOCATION,
    HopsDep,
    JobId,
    Reader,
    RuntimeDep,
    Writer,
    build_location,
)
from app.routers.examples import BACKFILL, EXECUTE, RETRY
from app.routers.idempotent import ReservedIdDep
from app.routers.json_route import StrictJsonRoute
from app.routers.problems import document_errors
from app.schemas.executions import (
    AllExecutionsQuery,
    BackfillIn,
    BackfillOut,
    ExecutionOut,
    ExecutionPage,
    ExecutionQuery,
    ManualExecutionIn,
    RetryExecutionIn,
)
from app.schemas.response_bodies import ResponseBody, execution_body, execution_page_body

router = APIRouter(tags=["Executions"], route_class=StrictJsonRoute)

ExecutionId = Annotated[str, Path(description="The execution's id.")]


@router.post(
    "/jobs/{job_id}/execute",
    operation_id="execute_job",
    summary="Execute a job",
    status_code=202,
    response_model=ExecutionOut,
    responses={
        202: {"headers": LOCATION},
        **document_errors(401, 403, 404, 408, 409, 413, 415, 422, 503, 508),
    },
)
async def execute_job(
    runtime: RuntimeDep,
    actor: Writer,
    job_id: JobId,
    reserved: ReservedIdDep,
    hops: HopsDep,
    request: Request,
    body: Annotated[ManualExecutionIn | None, Body(openapi_examples=EXECUTE)] = None,
) -> Response:
    """Queue one execution, also of a paused job. The schedules do not change.

    The body is optional. `overlap_policy` decides what happens while another execution of the job
    is live: with `skip` the response is an execution with the status `skipped`.
    """
    body = body or ManualExecutionIn()
    execution = await runtime.executions.execute(
        actor,
        job_id,
        parameters=body.parameters,
        overlap_policy=body.overlap_policy,
        reserved=reserved,
        hops=hops,
    )
    headers = build_location(request, f"/executions/{execution.id}")
    return respond(execution_body(execution), 202, headers=headers)


@router.get(
    "/jobs/{job_id}/executions",
    operation_id="list_job_executions",
    summary="List a job's executions",
    response_model=ExecutionPage,
    responses=document_errors(401, 404, 422, 503),
)
async def list_job_executions(
    runtime: RuntimeDep,
    actor: Reader,
    job_id: JobId,
    query: Annotated[ExecutionQuery, Query()],
) -> Response:
    """The job's executions, the newest slot first. The history of a deleted job stays readable
    until retention deletes it.

    The items are partial: without `parameters`, and without headers and bodies of responses.
    `fields=full` returns whole items. A page ends at about 4 MB, so it may have fewer items than
    `limit`: another page follows if `next_cursor` is not null.
    """
    async with runtime.large_reads.enter(actor.user_id):
        listing = await runtime.executions.list_for_job(actor, job_id, query)
        body = await execution_page_body(listing, query.fields)
    return respond(body)


@router.get(
    "/executions",
    operation_id="list_executions",
    summary="List executions",
    response_model=ExecutionPage,
    responses=document_errors(401, 422, 503),
)
async def list_executions(
    runtime: RuntimeDep, actor: Reader, query: Annotated[AllExecutionsQuery, Query()]
) -> Response:
    """The executions of all your jobs, the newest slot first. An admin sees those of all users.

    Items and pages are as in the listing of a job's executions: partial without `fields=full`, and
    at most about 4 MB.
    """
    async with runtime.large_reads.enter(actor.user_id):
        listing = await runtime.executions.list_all(actor, query)
        body = await execution_page_body(listing, query.fields)
    return respond(body)


@router.post(
    "/jobs/{job_id}/backfill",
    operation_id="backfill_job",
    summary="Execute the slots of a past range",
    status_code=202,
    response_model=BackfillOut,
    responses=document_errors(401, 403, 404, 408, 409, 413, 415, 422, 503, 508)
    | {200: {"model": BackfillOut, "description": "A dry run, or no slot in the range"}},
)
async def backfill_job(
    runtime: RuntimeDep,
    actor: Writer,
    job_id: JobId,
    reserved: ReservedIdDep,
    hops: HopsDep,
    body: Annotated[BackfillIn, Body(openapi_examples=BACKFILL)],
) -> Response:
    """Record an execution for each slot of [start, end). By default they run one after the other,
    see `overlap_policy`.

    The slots are those of the job's present schedules. With `dry_run` nothing is stored.
    """
    backfill = await runtime.backfills.backfill(actor, job_id, body, reserved=reserved, hops=hops)
    return respond(ResponseBody.of(backfill), 200 if backfill.backfill_id is None else 202)


@router.post(
    "/executions/{execution_id}/cancel",
    operation_id="cancel_execution",
    summary="Cancel an execution",
    response_model=ExecutionOut,
    responses=document_errors(401, 403, 404, 408, 409, 413, 422, 503)
    | {202: {"model": ExecutionOut, "description": "The execution is running and will stop"}},
)
async def cancel_execution(
    runtime: RuntimeDep, actor: Writer, execution_id: ExecutionId
) -> Response:
    """Cancel an execution: immediately while it is queued (200), within about two seconds while it
    is running (202).

    A success that is reported after the cancellation does not count.
    """
    execution = await runtime.executions.cancel(actor, execution_id)
    status = 202 if execution.status is ExecutionStatus.RUNNING else 200
    return respond(execution_body(execution), status)


@router.post(
    "/executions/{execution_id}/retry",
    operation_id="retry_execution",
    summary="Retry an execution",
    status_code=202,
    response_model=ExecutionOut,
    responses={
        202: {"headers": LOCATION},
        **document_errors(401, 403, 404, 408, 409, 413, 415, 422, 503, 508),
    },
)
async def retry_execution(
    runtime: RuntimeDep,
    actor: Writer,
    execution_id: ExecutionId,
    reserved: ReservedIdDep,
    hops: HopsDep,
    request: Request,
    body: Annotated[RetryExecutionIn | None, Body(openapi_examples=RETRY)] = None,
) -> Response:
    """Queue a new execution for the slot of a finished execution.

    `retry_of` of the new execution is the id of the finished one. The body is optional.

    A `missed` record of several slots cannot be retried, nor an execution of a deleted job.
    """
    body = body or RetryExecutionIn()
    execution = await runtime.executions.retry(
        actor,
        execution_id,
        parameters=body.parameters,
        overlap_policy=body.overlap_policy,
        reserved=reserved,
        hops=hops,
    )
    headers = build_location(request, f"/executions/{execution.id}")
    return respond(execution_body(execution), 202, headers=headers)


@router.get(
    "/executions/{execution_id}",
    operation_id="get_execution",
    summary="Read an execution",
    response_model=ExecutionOut,
    responses=document_errors(401, 404, 503),
)
async def get_execution(runtime: RuntimeDep, actor: Reader, execution_id: ExecutionId) -> Response:
    """One execution with all its attempts."""
    async with runtime.large_reads.enter(actor.user_id):
        execution = await runtime.executions.get(actor, execution_id)
        await wait_for_loop_turn()
        body = execution_body(execution)
    return respond(body)
