"""The socket on which the service listens, and the roles of the commands."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import _SEND_BUFFER_BYTES, _bind, cli, describe_use
from app.settings import Settings, load_settings

URL = "http://127.0.0.1:8000"


def test_the_kernel_keeps_little_of_a_response_that_nobody_reads() -> None:
    with _bind("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
            size = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert size <= 2 * _SEND_BUFFER_BYTES  # Linux doubles it for its own data


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
