"""A client generated from the OpenAPI document works against the service."""

import sys
from pathlib import Path

import pytest

from tests.support.programs import run_program
from tests.support.service import PASSWORD, USERNAME, Service

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("generated_client.py")
ENVIRONMENT = Path(sys.prefix) / "client"
SECONDS = 60


async def run(*arguments: object, folder: Path) -> str:
    """Run a Python program that must succeed; return what it prints."""
    python = ENVIRONMENT / "bin" / "python"
    assert python.exists(), "the generator is not installed: run `make test`, which does it"
    code, said = await run_program(
        python,
        *map(str, arguments),
        cwd=folder,
        env={"PATH": f"{ENVIRONMENT / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(folder)},
        seconds=SECONDS,
    )
    assert code == 0, said
    return said


async def test_a_generated_client_creates_a_job_and_reads_its_executions(tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    async with Service(tmp_path / "data") as service:
        document.write_bytes((await service.client.get("/openapi.json")).content)
        said = await run(
            *("-m", "openapi_python_client", "generate", "--path", document),
            *("--meta", "none", "--output-path", tmp_path / "carillon_client"),
            folder=tmp_path,
        )
        assert "Warning" not in said, said
        assert await run(PROGRAM, service.url, USERNAME, PASSWORD, folder=tmp_path) == "succeeded\n"
