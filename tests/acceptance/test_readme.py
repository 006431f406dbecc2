"""The commands in the README work, pasted as they stand into two terminals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import find_blocks
from tests.support.programs import run_program
from tests.support.service import ROOT, Service

pytestmark = pytest.mark.slow

URL = "http://127.0.0.1:8000"
SECONDS = 60


def read_blocks() -> tuple[str, str]:
    """The commands of the first terminal, and those of the second one."""
    first, *others = find_blocks(ROOT / "README.md", "tests/acceptance/test_readme.py", "sh")
    assert len(others) == 4
    return first, "\n".join(others)


class PastedService(Service):
    """The service that the first block of the README starts, in a folder that has a `make`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / ".data")
        self.folder = folder
        make = folder / "bin" / "make"
        make.parent.mkdir()
        make.write_text(f'#!/bin/sh\ntest "$*" = run && exec "{sys.executable}" -m app all\n')
        make.chmod(0o700)

    def _spawn(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        first, _ = read_blocks()
        assert first.endswith("\nmake run\n")
        path = f"{self.folder / 'bin'}:{environment['PATH']}"
        kept = {name: environment[name] for name in ("HOME", "PORT", "PYTHONDONTWRITEBYTECODE")}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                # bash does not pass signals on
                ["bash", "-c", first.replace("\nmake", "\nexec make")],
                cwd=self.folder,
                env=kept | {"PATH": path, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )


async def paste_second_blocks(service: PastedService) -> str:
    _, others = read_blocks()
    script = others.replace(URL, service.url)
    code, output = await run_program(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=service.folder,
        env={"PATH": os.environ["PATH"]},
        seconds=SECONDS,
    )
    assert code == 0, output
    return output


async def test_the_commands_in_the_readme_work_also_after_a_restart(tmp_path: Path) -> None:
    service = PastedService(tmp_path)
    for _ in range(2):
        await service.start()
        output = await paste_second_blocks(service)
        assert '"type": "urn:carillon:problem' not in output
        for name in ("weekly report", "morning mail", "refresh", "in full"):
            assert f'"name":"{name}"' in output
        assert await service.stop() == 0
    await service.client.aclose()
    file = tmp_path / ".env"
    assert file.stat().st_mode & 0o777 == 0o600
    name, _, password = file.read_text().strip().partition("=")
    assert name == "ADMIN_PASSWORD"
    assert password not in service.log.read_text()
