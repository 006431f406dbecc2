"""The commands in the README work."""

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.support.service import PASSWORD, ROOT, Service

pytestmark = pytest.mark.slow

_RUN = re.compile(r"<!-- run by tests/acceptance/test_readme.py -->\n```sh\n(.*?)```", re.DOTALL)
_URL = "http://127.0.0.1:8000"


async def test_the_commands_in_the_readme_work(tmp_path: Path) -> None:
    blocks = _RUN.findall((ROOT / "README.md").read_text())
    assert len(blocks) == 4
    script = "set -euo pipefail\n" + "\n".join(blocks)
    async with Service(tmp_path / "data") as service:
        shell = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            script.replace(_URL, service.url),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PASSWORD": PASSWORD},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await shell.communicate()
        text = output.decode()
        assert shell.returncode == 0, text
        assert '"type": "urn:carillon:problem' not in text
        names = {job["name"] for job in (await service.call("GET", "/jobs"))["items"]}
    assert names == {"weekly report", "morning mail", "refresh", "in full"}
