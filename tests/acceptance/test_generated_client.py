"""A client generated from the OpenAPI document works against the service."""

import sys
from pathlib import Path

import pytest

from tests.support.programs import run_program
from tests.support.service import PASSWORD, USERNAME, Service

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("generated_client.py")
ENVIRONMENT = Path(sys.prefix) / "client"
TIMEOUT_SECONDS = 60


async def run_python(*arguments: object, folder: Path) -> str:
    """Run a Python program that must succeed; return its output."""
    python = ENVIRONMENT / "bin" / "python"
    assert python.exists(), "The generator is not installed. Run `make test`, which installs it."
    code, output = await run_program(
        python,
        *map(str, arguments),
        cwd=folder,
        env={"PATH": f"{ENVIRONMENT / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(folder)},
        seconds=TIMEOUT_SECONDS,
    )
    assert code == 0, output
    return output


async def test_a_generated_client_creates_a_job_and_reads_its_executions(tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    async with Service(tmp_path / "data") as service:
        document.write_bytes((await service.client.get("/openapi.json")).content)
        output = await run_python(
            *("-m", "openapi_python_client", "generate", "--path", document),
            *("--meta", "none", "--output-path", tmp_path / "carillon_client"),
            folder=tmp_path,
        )
        assert "Warning" not in output, output
        assert (
            await run_python(PROGRAM, service.url, USERNAME, PASSWORD, folder=tmp_path)
            == "succeeded\n"
        )
