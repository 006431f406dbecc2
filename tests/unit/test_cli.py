"""The options and roles of the commands, and the socket on which the service listens."""

import asyncio
import errno
import re
import socket
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
import uvloop
from typer.testing import CliRunner

from app.cli import _SEND_BUFFER_BYTES, _bind, cli, describe_use
from app.errors import ConfigurationError
from app.http_server.startup import ACCEPTED_AT_ONCE, duplicate_listener
from app.settings import Settings, load_settings
from tests.support.waiting import run_other_tasks

URL = "http://127.0.0.1:8000"
COMMANDS = {"all": "all", "serve": "api", "schedule": "scheduler", "work": "worker"}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command_take_precedence_over_the_environment(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Settings] = []
    monkeypatch.setattr("app.cli._serve", served.append)
    monkeypatch.setenv("PORT", "8001")
    monkeypatch.setenv("HOST", "127.0.0.2")
    for options in ([], ["--host", "127.0.0.3"], ["--port", "0"]):
        result = CliRunner().invoke(cli, [command, *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    addresses = [(settings.host, settings.port) for settings in served]
    assert addresses == [("127.0.0.2", 8001), ("127.0.0.3", 8001), ("127.0.0.2", 0)]
    assert {settings.role for settings in served} == {COMMANDS[command]}


@pytest.mark.parametrize("command", [*COMMANDS, "init-db", "user add"])
def test_the_help_of_a_command_has_an_example(command: str) -> None:
    output = CliRunner().invoke(cli, [*command.split(), "--help"]).output
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", output).split())
    assert f"Example: python -m app {command}" in text
    assert ("--host" in text, "--port" in text) == (command in COMMANDS, command in COMMANDS)


def test_the_kernel_keeps_little_of_a_response_that_nobody_reads() -> None:
    with _bind("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
            size = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert size <= 2 * _SEND_BUFFER_BYTES  # Linux doubles it for its own data


def test_connections_do_not_wait_a_turn_of_the_event_loop_for_each_one_before_them() -> None:
    connections = 4 * ACCEPTED_AT_ONCE
    turns = uvloop.run(_count_turns_to_accept(connections))
    assert turns < connections / 4


async def _count_turns_to_accept(connections: int) -> int:
    """How many turns the event loop needs to accept connections that all wait at once."""
    accepted: list[asyncio.Transport] = []

    class Acceptance(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            accepted.append(transport)

    turns, loop = 0, asyncio.get_running_loop()
    async with AsyncExitStack() as servers:
        with ExitStack() as clients:
            listener = _bind("127.0.0.1", 0)
            for one in duplicate_listener(listener):
                server = await loop.create_server(Acceptance, sock=one, backlog=connections)
                await servers.enter_async_context(server)
            for _ in range(connections):
                clients.enter_context(socket.create_connection(listener.getsockname()))
            while len(accepted) < connections:
                turns += 1
                await run_other_tasks()
            for transport in accepted:
                transport.abort()
    return turns


@pytest.mark.parametrize(
    ("command", "set_role", "role"),
    [
        ("all", "", "all"),
        ("all", "worker", "worker"),
        ("all", "api", "api"),
        ("serve", "worker", "api"),
        ("schedule", "", "scheduler"),
        ("work", "api", "worker"),
    ],
)
def test_each_command_runs_its_role(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, set_role: str, role: str
) -> None:
    served: list[Settings] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROLE", set_role)
    monkeypatch.setattr("app.cli._serve", served.append)
    assert CliRunner().invoke(cli, [command]).exit_code == 0
    assert [settings.role for settings in served] == [role]


@pytest.mark.parametrize("role", ["all", "api"])
def test_a_process_with_the_api_prints_how_to_use_it(role: str) -> None:
    text = describe_use(URL, load_settings(env_file=None, role=role))
    assert f"{URL}/docs" in text
    assert f"{URL}/token" in text


@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_a_process_without_the_api_prints_only_paths_that_it_serves(role: str) -> None:
    text = describe_use(URL, load_settings(env_file=None, role=role))
    assert f"a {role} does not serve the API" in text
    assert f"{URL}/health/ready" in text
    assert "/docs" not in text
    assert "/token" not in text


def test_a_host_that_is_no_address_of_this_machine_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigurationError, match=r"Set HOST to an address of this machine"):
        _bind("192.0.2.1", 8000)
