"""The command line: `python -m app …`."""

import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Annotated

import typer
import uvicorn
import uvloop

from app.errors import CarillonError, ConfigurationError
from app.logs import configure_logs
from app.main import create_app
from app.models.user import Role
from app.runtime import Runtime, open_runtime
from app.settings import Settings, load_settings

cli = typer.Typer(
    help="Carillon: a job scheduler service that keeps its promises.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
users = typer.Typer(help="Who may sign in.", no_args_is_help=True)
cli.add_typer(users, name="user")

_CLOSE_CONNECTIONS_SECONDS = 5


@cli.command("all")
def run_all() -> None:
    """Run the API, the scheduler and the worker in one process (or what ROLE says)."""
    _serve(load_settings())


@cli.command()
def serve() -> None:
    """Run the API alone."""
    _serve(load_settings(role="api"))


@cli.command()
def schedule() -> None:
    """Run the scheduler alone; its port answers health checks."""
    _serve(load_settings(role="scheduler"))


@cli.command()
def work() -> None:
    """Run a worker alone; its port answers health checks."""
    _serve(load_settings(role="worker"))


@cli.command("init-db")
def init_db() -> None:
    """Create the indexes, migrate the documents of earlier releases, add the first admin, exit."""

    async def report(runtime: Runtime) -> None:
        typer.echo("The database is ready.")

    _once(report, migrate_again=True)


@users.command("add")
def add_user(
    username: str,
    role: Annotated[Role, typer.Option(help="What the user may do.")] = Role.EDITOR,
) -> None:
    """Add a user. The password is asked for, or read as a line from standard input."""
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")

    async def add(runtime: Runtime) -> None:
        user = await runtime.auth.add_user(username, password, role)
        typer.echo(f"Added {user.username} ({user.role}).")

    _once(add)


def main() -> None:
    """Run a command; what cannot work is one clear message and exit code 1."""
    try:
        cli()
    except CarillonError as error:
        typer.echo(f"carillon: {error.detail}", err=True)
        sys.exit(1)


class _Server(uvicorn.Server):
    """Says where it listens and what to do next, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            typer.echo(
                f"Carillon listens on {url}\n"
                f"  in a browser   {url}/docs (Authorize, then try a call)\n"
                f"  by curl        curl {url}/token -d username=NAME -d password=PASSWORD\n"
                f"  to stop        Ctrl-C"
            )


def _serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    configure_logs(settings.log_level, settings.log_format)
    for signum in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once everything is closed: then a stop is a success.
        signal.signal(signum, _exit)
    listener = _listen(settings.host, settings.port)

    async def serve() -> None:
        async with open_runtime(settings) as runtime:
            config = uvicorn.Config(
                create_app(runtime),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_CLOSE_CONNECTIONS_SECONDS,
                server_header=False,
            )
            await _Server(config).serve(sockets=[listener])

    uvloop.run(serve())


def _exit(signum: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _listen(host: str, port: int) -> socket.socket:
    """Take the address first: a second start says so before it touches any data."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"HOST {host} and PORT {port}: {error.strerror}. Is another one running? Set PORT."
        ) from error
    return listener


def _once(command: Callable[[Runtime], Awaitable[None]], *, migrate_again: bool = False) -> None:
    """Run one command on the stores, without any loop."""
    settings = load_settings(role="api")
    configure_logs("WARNING", settings.log_format)

    async def run() -> None:
        async with open_runtime(settings, migrate_again=migrate_again) as runtime:
            if runtime.first_admin is not None:
                typer.echo(runtime.first_admin.announcement())
            await command(runtime)

    uvloop.run(run())
