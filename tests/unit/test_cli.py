"""The options of the commands, and the socket on which the service listens."""

import re
import socket

import pytest
from typer.testing import CliRunner

from app.cli import _SEND_BUFFER_BYTES, _bind, cli
from app.settings import Settings

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
