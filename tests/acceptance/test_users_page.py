"""The commands of docs/users.md add users, also while the service runs."""

import sys
from pathlib import Path

import pytest

from tests.support.documents import find_blocks
from tests.support.programs import run_program
from tests.support.service import PASSWORD, ROOT, Service, make_environment

pytestmark = pytest.mark.slow
SECONDS = 60


async def test_the_commands_add_users_while_the_service_runs(tmp_path: Path) -> None:
    blocks = find_blocks(ROOT / "docs" / "users.md", "tests/acceptance/test_users_page.py", "sh")
    commands = "".join(blocks).replace(".venv/bin/python", sys.executable).splitlines()
    printed = []
    async with Service(tmp_path / "data") as service:
        await service.call("POST", "/jobs", json={"name": "of the first admin"})
        env = make_environment(service.port, service.data_dir)
        for command in commands:
            line = f"echo '{PASSWORD}' | {command}"
            code, output = await run_program("bash", "-c", line, env=env, seconds=SECONDS, cwd=ROOT)
            assert code == 0, output
            printed.append(output)
        form = {"username": "second-admin", "password": PASSWORD}
        token = (await service.call("POST", "/token", data=form))["access_token"]
        service.client.headers["Authorization"] = f"Bearer {token}"
        (job,) = (await service.call("GET", "/jobs"))["items"]
    assert job["name"] == "of the first admin"
    assert printed == [
        "Added alice (editor).\n",
        "Added bob (viewer).\n",
        "Added second-admin (admin).\n",
    ]
