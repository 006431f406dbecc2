"""The ASGI application: `create_app`, and `app` for `uvicorn app.main:app`. No I/O at import."""

import functools
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.errors import CarillonError, ConfigurationError
from app.http_server.connections import CONNECTIONS
from app.http_server.startup import open_connections, warn_of_other_protocol
from app.middleware.body_limit import BodyLimit
from app.middleware.client_address import ClientAddress
from app.middleware.cookies import CookieRemover
from app.middleware.loop_turns import RequestTurns
from app.middleware.paths import PathRewriter
from app.middleware.request_deadline import RequestDeadline
from app.middleware.request_id import RequestId
from app.middleware.security_headers import SecurityHeaders
from app.middleware.served_paths import ServedPaths
from app.networks import Networks
from app.routers import docs, executions, health, jobs, schedules, token
from app.routers.deps import runtime_of
from app.routers.problems import build_problem_response, install_handlers
from app.runtime import Runtime, open_runtime
from app.security import find_weakness
from app.settings import Settings, load_settings
from app.startup import prepare_logs, print_error

_DESCRIPTION = """\
Carillon runs jobs on time: by cron, at intervals, once, or by request.

Sign in with **Authorize**, then create a job. Instants are RFC 3339 with an offset, durations are
in seconds. Errors are problem details (RFC 9457) and name each invalid field.
"""
_TAGS = [
    {"name": "Signing in", "description": "Tokens."},
    {"name": "Jobs", "description": "Definitions: target, payload, policies and schedules."},
    {"name": "Schedules", "description": "A job's schedules one by one, and their next slots."},
    {"name": "Executions", "description": "The records of slots and manual requests."},
    {"name": "Health", "description": "Whether the service can work."},
]


class _Application(FastAPI):
    """FastAPI's application, with middleware around its own outermost one, which responds to bugs.
    So these responses have the headers of all others."""

    def build_middleware_stack(self) -> ASGIApp:
        return RequestId(SecurityHeaders(super().build_middleware_stack()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            send = functools.partial(_send_without_traceback, send)
        await super().__call__(scope, receive, send)


async def _send_without_traceback(send: Send, message: Message) -> None:
    """Print the message of an error of the service, as `python -m app` does. Otherwise the server
    prints the traceback in `message`."""
    error = sys.exception()
    if message["type"].endswith(".failed") and isinstance(error, CarillonError):
        print_error(error)
        message = {"type": message["type"]}
    await send(message)


def create_app(runtime: Runtime | None = None) -> FastAPI:
    """Create the application for an open runtime.

    Without `runtime`, the application opens one with the settings of the environment when it
    starts, and closes it when it stops.
    """
    app = _Application(
        title="Carillon",
        summary="A job scheduler service.",
        description=_DESCRIPTION,
        version=__version__,
        license_info={"name": "MIT", "identifier": "MIT"},
        openapi_tags=_TAGS,
        openapi_url=None,  # docs.py has the route, which encodes the document only once
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=functools.partial(_lifespan, runtime=runtime),
        middleware=[
            Middleware(ClientAddress, trusted_of=_get_trusted_proxies),
            Middleware(RequestDeadline, respond=build_problem_response),
            Middleware(BodyLimit, limit_of=_get_max_body_bytes),
            Middleware(PathRewriter),
            Middleware(
                ServedPaths,
                role_without_api_of=_find_role_without_api,
                respond=build_problem_response,
            ),
            Middleware(CookieRemover),
            Middleware(RequestTurns),
        ],
    )
    install_handlers(app)
    for module in (token, jobs, schedules, executions, health, docs):
        app.include_router(module.router)
    app.openapi = functools.partial(docs.build_openapi, app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, *, runtime: Runtime | None) -> AsyncIterator[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        if runtime is None:  # uvicorn has imported `app`; the command line passes a runtime
            settings = _load_settings()
            prepare_logs(settings)
            warn_of_other_protocol()
            runtime = await stack.enter_async_context(open_runtime(settings))
        app.state.runtime = runtime
        connections = open_connections(
            max_connections=runtime.settings.max_connections,
            worker_concurrency=runtime.settings.worker_concurrency,
            trusted_proxies=runtime.settings.trusted_proxies,
        )
        announce_first_admin(runtime)
        await runtime.start()
        # The collector need not visit what the start has created. Otherwise a body of many small
        # values makes it visit all of that, which blocks the event loop for up to 100 ms.
        gc.freeze()
        try:
            yield {CONNECTIONS: connections}
        finally:
            await runtime.stop()


def _load_settings() -> Settings:
    """The settings of an application that uvicorn's command has started.

    uvicorn listens where its own options say, so HOST does not tell whether others can connect,
    and a weak SECRET_KEY is always rejected. Raises ConfigurationError.
    """
    settings = load_settings()
    if settings.secret_key is not None:
        weakness = find_weakness(settings.secret_key.get_secret_value())
        if weakness is not None:
            raise ConfigurationError(
                f"SECRET_KEY {weakness} when uvicorn's command starts the service, because its"
                " --host decides who can connect; generate one with `openssl rand -hex 32`"
            )
    return settings


def announce_first_admin(runtime: Runtime) -> None:
    """Print the name and the password of an admin that the start has added."""
    if runtime.first_admin is not None:
        sys.stdout.write(f"{runtime.first_admin.announcement()}\n")
        sys.stdout.flush()


async def _get_trusted_proxies(scope: Scope) -> Networks:
    return (await runtime_of(scope)).settings.trusted_proxies


async def _get_max_body_bytes(scope: Scope) -> int:
    return (await runtime_of(scope)).settings.max_body_bytes


async def _find_role_without_api(scope: Scope) -> str | None:
    settings = (await runtime_of(scope)).settings
    return None if settings.serves_api else settings.role


app = create_app()
