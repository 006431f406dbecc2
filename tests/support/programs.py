"""Runs other programs."""

import asyncio
from collections.abc import Mapping
from pathlib import Path


async def run_program(
    *command: str | Path, env: Mapping[str, str], seconds: float, cwd: Path | None = None
) -> tuple[int | None, str]:
    """Run a program until it ends; return its exit code and its output.

    Raises TimeoutError after `seconds`. The program is then killed.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()
