"""Executions: run a job now, read its history."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response

from app.models.execution import Execution
from app.routers.deps import Reader, RuntimeDep, Writer
from app.routers.examples import EXECUTE
from app.routers.idempotent import ReservedDep
from app.routers.json_route import StrictJsonRoute
from app.routers.problems import documented
from app.schemas.executions import ExecuteIn, ExecutionOut, ExecutionQuery
from app.schemas.pages import Page

router = APIRouter(tags=["Executions"], route_class=StrictJsonRoute)

JobId = Annotated[str, Path(description="The job's id.")]
ExecutionId = Annotated[str, Path(description="The execution's id.")]

_JSON = "application/json"


@router.post(
    "/jobs/{job_id}/execute",
    operation_id="execute_job",
    summary="Run a job now",
    status_code=202,
    response_model=ExecutionOut,
    responses=documented(401, 403, 404, 409, 413, 415, 422, 503),
)
async def execute_job(
    runtime: RuntimeDep,
    actor: Writer,
    job_id: JobId,
    reserved: ReservedDep,
    body: Annotated[ExecuteIn | None, Body(openapi_examples=EXECUTE)] = None,
) -> Response:
    """Queue one execution, of a paused job too. Schedules are not touched.

    The body is optional. Under `skip`, while another execution of the job is live, the answer is
    an execution with the status `skipped`.
    """
    wish = body or ExecuteIn()
    execution = await runtime.executions.run_now(
        actor,
        job_id,
        parameters=wish.parameters,
        overlap_policy=wish.overlap_policy,
        reserved=reserved,
    )
    return _answer(execution, 202)


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
    page = Page[ExecutionOut](
        items=[ExecutionOut.of(execution) for execution in listing.items],
        next_cursor=listing.next_cursor,
    )
    return Response(page.model_dump_json(), media_type=_JSON)


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


def _answer(execution: Execution, status: int = 200) -> Response:
    return Response(ExecutionOut.of(execution).model_dump_json(), status, media_type=_JSON)
