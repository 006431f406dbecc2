"""The service as somebody sees it who generates a client from its document."""

import asyncio
import sys
from pathlib import Path

from tests.support.service import PASSWORD, USERNAME, Service

PROGRAM = Path(__file__).with_name("generated_client.py")
ENVIRONMENT = Path(sys.prefix) / "client"
SECONDS = 60


async def run(*arguments: object, folder: Path) -> str:
    """What the program prints, once it has ended well."""
    python = ENVIRONMENT / "bin" / "python"
    assert python.exists(), "the generator is not installed: run `make test`, which does it"
    process = await asyncio.create_subprocess_exec(
        python,
        *map(str, arguments),
        cwd=folder,
        env={"PATH": f"{ENVIRONMENT / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    return output.decode()


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
