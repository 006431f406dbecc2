"""Liveness and readiness. These routes need no token."""

from fastapi import APIRouter, Request, Response

from app.routers.deps import RuntimeDep
from app.routers.problems import build_problem, document_errors
from app.schemas.health import Liveness, Pong, Readiness

router = APIRouter(tags=["Health"])

_UNAVAILABLE = 503


@router.get("/ping", operation_id="ping", summary="Ping")
async def ping() -> Pong:
    """Respond without calling the database or Redis."""
    return Pong()


@router.get("/health/live", operation_id="live", summary="Is the process alive?")
async def live() -> Liveness:
    """Always respond with 200. If this call gets no response, restart the process."""
    return Liveness()


@router.get("/health", include_in_schema=False, response_model=Readiness)
@router.get(
    "/health/ready",
    operation_id="ready",
    summary="Can the service work?",
    response_model=Readiness,
    responses=document_errors(_UNAVAILABLE),
)
async def ready(request: Request, runtime: RuntimeDep) -> Readiness | Response:
    """Check the database, Redis, the schema of the stored data, and each loop of this process.

    `checks` has the state of each part. With a 503, at least one of them is not `ok`. `warnings`
    do not make the service unready.
    """
    readiness = await runtime.health.check()
    if not readiness.failing:
        return Readiness(checks=dict(readiness.checks), warnings=dict(readiness.warnings))
    failing = "; ".join(f"{part} {finding}" for part, finding in readiness.failing.items())
    return build_problem(
        request,
        _UNAVAILABLE,
        f"Not ready: {failing}.",
        code="not_ready",
        title="Not ready",
        headers={"Retry-After": "2"},
        extra_members={
            "checks": dict(readiness.checks),
            "warnings": dict(readiness.warnings),
        },
    )
