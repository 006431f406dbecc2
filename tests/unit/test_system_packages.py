"""`.ci/install-system-packages`, which prepares a bare Debian or Ubuntu for the tests."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "install-system-packages"
NEEDED = ("redis-server", "node", "npm", "make")


class Machine:
    """A PATH that has only the commands that a test names, and notes what they are called with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.calls = folder / "calls.txt"
        shutil.copy("/usr/bin/env", folder / "env")
        (folder / "python3").symlink_to(sys.executable)
        self.add("ldconfig", does="echo libcurl.so.4")

    def add(self, name: str, *, does: str = "", status: int = 0) -> None:
        path = self._folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{does}\nexit {status}\n')
        path.chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", SCRIPT],
            env={"PATH": str(self._folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def list_calls(self, name: str) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(f"{name} ")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.add("apt-get")
    return machine


def test_nothing_is_installed_or_said_if_nothing_is_missing(machine: Machine) -> None:
    for name in NEEDED:
        machine.add(name)
    result = machine.run()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert machine.list_calls("apt-get") == []


def test_root_installs_what_is_missing_and_says_what(machine: Machine) -> None:
    for name in ("make", "node"):
        machine.add(name)
    machine.add("ldconfig")
    machine.add("id", does="echo 0")
    result = machine.run()
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(": redis-server npm libcurl4\n")
    *_, last = machine.list_calls("apt-get")
    assert last.endswith(" redis-server npm libcurl4")


def test_another_user_installs_by_sudo(machine: Machine) -> None:
    machine.add("id", does="echo 1000")
    machine.add("sudo", does='case "$1" in -*) exit 0 ;; *) exec "$@" ;; esac')
    result = machine.run()
    assert result.returncode == 0, result.stderr
    assert "by sudo" in result.stdout
    assert len(machine.list_calls("apt-get")) == 2


def test_the_output_of_a_failed_installation_is_shown(machine: Machine) -> None:
    machine.add("id", does="echo 0")
    machine.add("apt-get", does="echo no network", status=100)
    result = machine.run()
    assert result.returncode == 100
    assert "no network" in result.stderr


@pytest.mark.parametrize("has_sudo", [True, False])
def test_without_root_and_sudo_the_command_to_run_is_named(
    machine: Machine, has_sudo: bool
) -> None:
    machine.add("id", does="echo 1000")
    if has_sudo:  # it asks for a password, and there is no terminal
        machine.add("sudo", status=1)
    result = machine.run()
    assert result.returncode == 1
    assert (
        "apt-get install -y --no-install-recommends make redis-server nodejs npm" in result.stderr
    )
    assert machine.list_calls("apt-get") == []


def test_without_apt_get_the_missing_packages_are_named(tmp_path: Path) -> None:
    result = Machine(tmp_path).run()
    assert result.returncode == 1
    assert "make redis-server nodejs npm" in result.stderr
