"""Liveness and readiness. These routes need no token."""

from fastapi import APIRouter, Request, Response

from app.routers.deps import RuntimeDep
from app.routers.problems import documented, problem
from app.schemas.health import Live, Pong, Ready

router = APIRouter(tags=["Health"])

_UNAVAILABLE = 503


@router.get("/ping", operation_id="ping", summary="Ping")
async def ping() -> Pong:
    """Respond without using another part of the service."""
    return Pong()


@router.get("/health/live", operation_id="live", summary="Is the process alive?")
async def live() -> Live:
    """Fails only if the process does not respond. Then restart it."""
    return Live()


@router.get(
    "/health/ready",
    operation_id="ready",
    summary="Can the service work?",
    response_model=Ready,
    responses=documented(_UNAVAILABLE),
)
async def ready(request: Request, runtime: RuntimeDep) -> Ready | Response:
    """Check the database, Redis, and each loop of this process.

    A 503 names each failing part in `checks`.
    """
    readiness = await runtime.health.check()
    if not readiness.failing:
        return Ready(checks=dict(readiness.checks))
    failing = "; ".join(f"{part} {finding}" for part, finding in readiness.failing.items())
    return problem(
        request,
        _UNAVAILABLE,
        f"Not ready: {failing}.",
        code="not_ready",
        title="Not ready",
        headers={"Retry-After": "2"},
        more={"checks": dict(readiness.checks)},
    )
