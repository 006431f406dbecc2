"""The command line: `python -m app …`."""

import errno
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Annotated, Any

import typer
import uvicorn
import uvloop

from app.errors import CarillonError, ConfigurationError
from app.http_server.protocol import LimitedProtocol
from app.http_server.startup import duplicate_listener
from app.main import announce_first_admin, create_app
from app.models.user import Role
from app.runtime import Runtime, open_runtime
from app.settings import Settings, load_settings
from app.startup import prepare_logs, print_error

cli = typer.Typer(
    help="Carillon: a job scheduler service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
users = typer.Typer(help="Manage the users who may sign in.", no_args_is_help=True)
cli.add_typer(users, name="user")

_CLOSE_CONNECTIONS_SECONDS = 5

Host = Annotated[
    str | None, typer.Option(help="Address to listen on, 0.0.0.0 for all; otherwise HOST.")
]
Port = Annotated[
    int | None, typer.Option(help="TCP port to listen on, 0 for a free one; otherwise PORT.")
]
_EXAMPLE = (
    "Example: python -m app {}. Settings come from the environment and .env, see .env.example."
)


@cli.command("all", epilog=_EXAMPLE.format("all --port 9000"))
def run_all(host: Host = None, port: Port = None) -> None:
    """Run the API, the scheduler and the worker in one process, or only the parts that the process
    role ROLE names."""
    _serve(_load(host, port))


@cli.command(epilog=_EXAMPLE.format("serve --host 0.0.0.0 --port 8000"))
def serve(host: Host = None, port: Port = None) -> None:
    """Serve only the API. No loop is started."""
    _serve(_load(host, port, role="api"))


@cli.command(epilog=_EXAMPLE.format("schedule --port 8001"))
def schedule(host: Host = None, port: Port = None) -> None:
    """Run the scheduler, reaper, janitor and trimmer, without a worker. The port serves only /ping,
    /health, /health/live and /health/ready."""
    _serve(_load(host, port, role="scheduler"))


@cli.command(epilog=_EXAMPLE.format("work --port 8002"))
def work(host: Host = None, port: Port = None) -> None:
    """Run a worker, the reaper, janitor and trimmer, without a scheduler. The port serves only
    /ping, /health, /health/live and /health/ready."""
    _serve(_load(host, port, role="worker"))


@cli.command("init-db", epilog=_EXAMPLE.format("init-db"))
def init_db() -> None:
    """Create the indexes, migrate the documents of earlier releases and add the first admin."""

    async def report(runtime: Runtime) -> None:
        typer.echo("The database is ready.")

    _run_once(report, migrate_again=True)


@users.command("add", epilog=_EXAMPLE.format("user add alice --role viewer"))
def add_user(
    username: str,
    role: Annotated[Role, typer.Option(help="What the user may do.")] = Role.EDITOR,
) -> None:
    """Add a user. The password is read from the terminal or from a line of standard input."""
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")

    async def add(runtime: Runtime) -> None:
        user = await runtime.auth.add_user(username, password, role)
        typer.echo(f"Added {user.username} ({user.role}).")

    _run_once(add)


def _load(host: str | None, port: int | None, **overrides: str) -> Settings:
    """Load the settings. The options of the command take precedence over HOST and PORT."""
    given: dict[str, Any] = {"host": host, "port": port, **overrides}
    return load_settings(**{name: value for name, value in given.items() if value is not None})


def main() -> None:
    """Run a command. An error of the service is printed as one message; the exit code is then 1."""
    try:
        cli()
    except CarillonError as error:
        print_error(error)
        sys.exit(1)


class _Server(uvicorn.Server):
    """Prints the URL and the next steps when the server listens."""

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            typer.echo(describe_use(url, self._settings))


def describe_use(url: str, settings: Settings) -> str:
    """What a process of this role offers at its URL."""
    if settings.serves_api:
        use = (
            f"  in a browser   {url}/docs (Authorize, then try a call)\n"
            f"  by curl        curl {url}/token -d username=NAME -d password=PASSWORD\n"
        )
    else:
        role = settings.role
        use = f"  its health     curl {url}/health/ready (a {role} does not serve the API)\n"
    return f"Carillon listens on {url}\n{use}  to stop        Ctrl-C"


_SEND_BUFFER_BYTES = 131_072
"""Of each connection, in the kernel. Otherwise it keeps up to 4 MB that a client does not read."""


def _serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    prepare_logs(settings)
    for signum in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when everything is closed. The exit code is then 0.
        signal.signal(signum, _exit)
    listener = _bind(settings.host, settings.port)

    async def serve() -> None:
        async with open_runtime(settings) as runtime:
            config = uvicorn.Config(
                create_app(runtime),
                http=LimitedProtocol,
                proxy_headers=False,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_CLOSE_CONNECTIONS_SECONDS,
                server_header=False,
            )
            await _Server(config, settings).serve(sockets=duplicate_listener(listener))

    uvloop.run(serve())


def _exit(signum: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _bind(host: str, port: int) -> socket.socket:
    """Bind a socket to the address.

    This is the first step, so that a second process on the same port fails before it uses any data.
    Raises ConfigurationError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        advice = "If another program uses this port, set PORT to another one."
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            advice = "Set HOST to an address of this machine, such as 127.0.0.1, or to 0.0.0.0."
        raise ConfigurationError(
            f"HOST {host} and PORT {port}: {error.strerror}. {advice}"
        ) from error
    return listener


def _run_once(
    command: Callable[[Runtime], Awaitable[None]], *, migrate_again: bool = False
) -> None:
    """Run a command with an open runtime whose loops are not started."""
    settings = load_settings(role="api")
    prepare_logs(settings, level="WARNING")

    async def run() -> None:
        async with open_runtime(settings, migrate_again=migrate_again) as runtime:
            announce_first_admin(runtime)
            await command(runtime)

    uvloop.run(run())
