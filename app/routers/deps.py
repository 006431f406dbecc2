"""What routes ask for: the runtime, and who makes the request. All else derives from these."""

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import OAuth2PasswordBearer

from app.errors import ForbiddenError, NotAuthenticatedError
from app.models.user import Actor, Role
from app.runtime import Runtime

_bearer = OAuth2PasswordBearer(
    tokenUrl="token",
    auto_error=False,
    scheme_name="Password",
    description="Sign in with the user name and the password.",
)


async def get_runtime(request: Request) -> Runtime:
    """The composed service. Tests override this one function, or set `app.state.runtime`."""
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]


async def current_actor(
    request: Request, runtime: RuntimeDep, token: Annotated[str | None, Depends(_bearer)]
) -> Actor:
    """Whoever the bearer token stands for. Raises NotAuthenticatedError."""
    known: Actor | None = getattr(request.state, "actor", None)
    return known or await _authenticate(runtime, token)


async def identify(request: Request) -> Actor:
    """The same before anything else of the request is looked at; asked once a request."""
    runtime = await get_runtime(request)
    actor: Actor = await _authenticate(runtime, await _bearer(request))
    request.state.actor = actor
    return actor


async def _authenticate(runtime: Runtime, token: str | None) -> Actor:
    if not token:
        raise NotAuthenticatedError("Send an access token: `Authorization: Bearer …`.")
    return await runtime.auth.authenticate(token)


async def writing_actor(actor: Annotated[Actor, Depends(current_actor)]) -> Actor:
    """The same, if they may change anything. Raises ForbiddenError."""
    if actor.role is Role.VIEWER:
        raise ForbiddenError("A viewer may read, but not change anything.")
    return actor


def location(request: Request, path: str) -> dict[str, str]:
    """The header that says where the thing is that the request has made."""
    return {"Location": f"{request.scope.get('root_path', '')}{path}"}


LOCATION = {
    "Location": {
        "description": "The path of what was made.",
        "required": True,
        "schema": {"type": "string"},
    }
}
"""The same, for the document."""

Reader = Annotated[Actor, Depends(current_actor)]
Writer = Annotated[Actor, Depends(writing_actor)]

JobId = Annotated[str, Path(description="The job's id.")]
