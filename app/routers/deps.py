"""Dependencies of the routes: the runtime, and the actor who sends the request."""

import inspect
import re
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Path, Request
from fastapi.security import OAuth2PasswordBearer
from starlette.types import Scope

from app.errors import ForbiddenError, HopsError, InvalidInputError, NotAuthenticatedError
from app.models.execution import HOPS_HEADER, MAX_HOPS
from app.models.user import Actor, Role
from app.runtime import Runtime

_HOPS = re.compile(r"^[0-9]{1,9}$")
_bearer = OAuth2PasswordBearer(
    tokenUrl="token",
    auto_error=False,
    scheme_name="Password",
    description="Sign in with the user name and the password.",
)


async def runtime_of(scope: Scope) -> Runtime:
    """The runtime of the application that handles a request.

    It is the result of the function that overrides `get_runtime` in `app.dependency_overrides`,
    else `app.state.runtime`. The overriding function takes no arguments; it may be a coroutine
    function.
    """
    app: FastAPI = scope["app"]
    override = app.dependency_overrides.get(get_runtime)
    if override is None:
        runtime: Runtime = app.state.runtime
        return runtime
    result = override()
    overriding: Runtime = await result if inspect.isawaitable(result) else result
    return overriding


async def get_runtime(request: Request) -> Runtime:
    """The runtime. Tests override this one function."""
    return await runtime_of(request.scope)


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]


async def authenticate_actor(
    request: Request, runtime: RuntimeDep, token: Annotated[str | None, Depends(_bearer)]
) -> Actor:
    """The actor of the bearer token. Raises NotAuthenticatedError."""
    known: Actor | None = getattr(request.state, "actor", None)
    return known or await _authenticate(runtime, token)


async def identify(request: Request) -> Actor:
    """The actor of the bearer token, before the body is read. `authenticate_actor` then returns
    this actor without another look-up. Raises NotAuthenticatedError."""
    runtime = await runtime_of(request.scope)
    actor: Actor = await _authenticate(runtime, await _bearer(request))
    request.state.actor = actor
    return actor


async def _authenticate(runtime: Runtime, token: str | None) -> Actor:
    if not token:
        raise NotAuthenticatedError("Send an access token: `Authorization: Bearer …`.")
    return await runtime.auth.authenticate(token)


async def require_writer(actor: Annotated[Actor, Depends(authenticate_actor)]) -> Actor:
    """The actor of the bearer token, if its role may write. Raises ForbiddenError."""
    if actor.role is Role.VIEWER:
        raise ForbiddenError("A viewer may read, but not change anything.")
    return actor


def build_location(request: Request, path: str) -> dict[str, str]:
    """The `Location` header of a created resource."""
    return {"Location": f"{request.scope.get('root_path', '')}{path}"}


LOCATION = {
    "Location": {
        "description": "The path of the created resource.",
        "required": True,
        "schema": {"type": "string"},
    }
}
"""OpenAPI description of the `Location` header."""

Reader = Annotated[Actor, Depends(authenticate_actor)]
Writer = Annotated[Actor, Depends(require_writer)]


async def read_hops(
    request: Request,
    hops: Annotated[
        str,
        Header(
            alias=HOPS_HEADER,
            description="Set by the service when it calls a target: how many of its targets stand "
            f"between a user and this request. A request with more than {MAX_HOPS} gets a 508.",
            json_schema_extra={"pattern": _HOPS.pattern},
        ),
    ] = "0",
) -> int:
    """The hops of a request that makes or edits jobs, or makes executions. Raises HopsError and
    InvalidInputError."""
    if len(request.headers.getlist(HOPS_HEADER)) > 1:
        raise InvalidInputError.at(f"/header/{HOPS_HEADER}", "send this header at most once")
    if not _HOPS.fullmatch(hops):
        raise InvalidInputError.at(
            f"/header/{HOPS_HEADER}", "send a whole number of at most 9 digits"
        )
    if int(hops) > MAX_HOPS:
        raise HopsError(
            f"This request has made {int(hops)} hops through targets of this service: a job that a "
            "target has executed, created or edited must not do the same to another job. Let the "
            "first job or the receiver call the last job directly."
        )
    return int(hops)


HopsDep = Annotated[int, Depends(read_hops)]

JobId = Annotated[str, Path(description="The job's id.")]
