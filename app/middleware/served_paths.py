"""What a process without the API serves: its health, and nothing else."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import NotFoundError
from app.health_paths import HEALTH_PATHS


class ServedPaths:
    """Responds with a 404 to every path but those of the health, if the process has no API.

    `role_without_api_of` returns the role of such a process, and None in a process with the API.
    `respond` returns the response to an error.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        role_without_api_of: Callable[[Scope], Awaitable[str | None]],
        respond: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        self._app = app
        self._role_without_api_of = role_without_api_of
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_of_health(scope):
            role = await self._role_without_api_of(scope)
            if role is not None:
                response = await self._respond(Request(scope), _build_error(role))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_of_health(scope: Scope) -> bool:
    return scope["path"].removeprefix(scope.get("root_path", "")) in HEALTH_PATHS


def _build_error(role: str) -> NotFoundError:
    return NotFoundError(
        f"This process does not serve the API, because its role is {role}. It serves only /ping, "
        "/health, /health/live and /health/ready. Send the request to a process with the role api "
        "or all."
    )
