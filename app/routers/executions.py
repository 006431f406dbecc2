"""Executions: run a job now, read its history."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request, Response

from app.models.execution import Execution, ExecutionStatus
from app.routers.deps import LOCATION, JobId, Reader, RuntimeDep, Writer, location
from app.routers.examples import BACKFILL, EXECUTE, RETRY
from app.routers.idempotent import ReservedDep
from app.routers.json_route import StrictJsonRoute
from app.routers.problems import documented
from app.schemas.executions import (
    AllExecutionsQuery,
    BackfillIn,
    BackfillOut,
    ExecuteIn,
    ExecutionOut,
    ExecutionQuery,
    RetryExecutionIn,
)
from app.schemas.pages import Page
from app.services.listing import Listing

router = APIRouter(tags=["Executions"], route_class=StrictJsonRoute)

ExecutionId = Annotated[str, Path(description="The execution's id.")]

_JSON = "application/json"


@router.post(
    "/jobs/{job_id}/execute",
    operation_id="execute_job",
    summary="Run a job now",
    status_code=202,
    response_model=ExecutionOut,
    responses={
        202: {"headers": LOCATION},
        **documented(401, 403, 404, 408, 409, 413, 415, 422, 503),
    },
)
async def execute_job(
    runtime: RuntimeDep,
    actor: Writer,
    job_id: JobId,
    reserved: ReservedDep,
    request: Request,
    body: Annotated[ExecuteIn | None, Body(openapi_examples=EXECUTE)] = None,
) -> Response:
    """Queue one execution, of a paused job too. Schedules are not touched.

    The body is optional. `overlap_policy` says what happens while another execution of the job is
    live: under `skip` the answer is an execution with the status `skipped`.
    """
    wish = body or ExecuteIn()
    execution = await runtime.executions.execute(
        actor,
        job_id,
        parameters=wish.parameters,
        overlap_policy=wish.overlap_policy,
        reserved=reserved,
    )
    return _answer(execution, 202, location(request, f"/executions/{execution.id}"))


@router.get(
    "/jobs/{job_id}/executions",
    operation_id="list_job_executions",
    summary="List a job's executions",
    response_model=Page[ExecutionOut],
    responses=documented(401, 404, 422, 503),
)
async def list_job_executions(
    runtime: RuntimeDep,
    actor: Reader,
    job_id: JobId,
    query: Annotated[ExecutionQuery, Query()],
) -> Response:
    """The newest slot first. The history of a deleted job stays readable until it is too old."""
    listing = await runtime.executions.list_for_job(actor, job_id, query)
    return _page(listing)


@router.get(
    "/executions",
    operation_id="list_executions",
    summary="List executions",
    response_model=Page[ExecutionOut],
    responses=documented(401, 422, 503),
)
async def list_executions(
    runtime: RuntimeDep, actor: Reader, query: Annotated[AllExecutionsQuery, Query()]
) -> Response:
    """Of all your jobs, the newest slot first; an admin sees everybody's."""
    return _page(await runtime.executions.list_all(actor, query))


@router.post(
    "/jobs/{job_id}/backfill",
    operation_id="backfill_job",
    summary="Run the slots of a past range",
    status_code=202,
    response_model=BackfillOut,
    responses=documented(401, 403, 404, 408, 409, 413, 415, 422, 503)
    | {200: {"model": BackfillOut, "description": "A dry run, or no slot in the range"}},
)
async def backfill_job(
    runtime: RuntimeDep,
    actor: Writer,
    job_id: JobId,
    reserved: ReservedDep,
    body: Annotated[BackfillIn, Body(openapi_examples=BACKFILL)],
) -> Response:
    """Record an execution for each slot of [start, end), one running after the other unless
    `overlap_policy` says otherwise.

    The slots are those of the job's schedules as they are now. With `dry_run` nothing is written.
    """
    done = await runtime.backfills.backfill(actor, job_id, body, reserved=reserved)
    status = 200 if done.backfill_id is None else 202
    return Response(done.model_dump_json(), status, media_type=_JSON)


@router.post(
    "/executions/{execution_id}/cancel",
    operation_id="cancel_execution",
    summary="Cancel an execution",
    response_model=ExecutionOut,
    responses=documented(401, 403, 404, 408, 409, 413, 422, 503)
    | {202: {"model": ExecutionOut, "description": "It runs, and is being stopped"}},
)
async def cancel_execution(
    runtime: RuntimeDep, actor: Writer, execution_id: ExecutionId
) -> Response:
    """End an execution: at once while it waits (200), within about two seconds while it runs (202).

    A success that comes later than the cancel is refused.
    """
    execution = await runtime.executions.cancel(actor, execution_id)
    return _answer(execution, 202 if execution.status is ExecutionStatus.RUNNING else 200)


@router.post(
    "/executions/{execution_id}/retry",
    operation_id="retry_execution",
    summary="Run an execution again",
    status_code=202,
    response_model=ExecutionOut,
    responses={
        202: {"headers": LOCATION},
        **documented(401, 403, 404, 408, 409, 413, 415, 422, 503),
    },
)
async def retry_execution(
    runtime: RuntimeDep,
    actor: Writer,
    execution_id: ExecutionId,
    reserved: ReservedDep,
    request: Request,
    body: Annotated[RetryExecutionIn | None, Body(openapi_examples=RETRY)] = None,
) -> Response:
    """Queue a new execution for the slot of one that has ended, whatever its end; `retry_of` names
    it. The body is optional."""
    wish = body or RetryExecutionIn()
    execution = await runtime.executions.retry(
        actor,
        execution_id,
        parameters=wish.parameters,
        overlap_policy=wish.overlap_policy,
        reserved=reserved,
    )
    return _answer(execution, 202, location(request, f"/executions/{execution.id}"))


@router.get(
    "/executions/{execution_id}",
    operation_id="get_execution",
    summary="Read an execution",
    response_model=ExecutionOut,
    responses=documented(401, 404, 503),
)
async def get_execution(runtime: RuntimeDep, actor: Reader, execution_id: ExecutionId) -> Response:
    """One execution with all its attempts."""
    return _answer(await runtime.executions.get(actor, execution_id))


def _answer(
    execution: Execution, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    body = ExecutionOut.of(execution).model_dump_json()
    return Response(body, status, headers, media_type=_JSON)


def _page(listing: Listing[Execution]) -> Response:
    page = Page[ExecutionOut](
        items=[ExecutionOut.of(execution) for execution in listing.items],
        next_cursor=listing.next_cursor,
    )
    return Response(page.model_dump_json(), media_type=_JSON)
