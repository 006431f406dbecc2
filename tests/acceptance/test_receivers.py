"""The receivers in docs/receivers.md handle each execution once, and its commands work."""

import asyncio
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.models.target import HttpTargetSpec
from tests.support.deliveries import DELIVERY, make_delivery
from tests.support.documents import find_blocks
from tests.support.http_target import open_target
from tests.support.programs import run_program
from tests.support.service import ROOT, Service, free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
PAGE = ROOT / "docs" / "receivers.md"
THIS_TEST = "tests/acceptance/test_receivers.py"
PORT = "9000"
LANGUAGES = ["python", "js"]
MAX_LINES = 20
FIRST, SECOND = "0192f3a4b5c67d8e9f00112233445501", "0192f3a4b5c67d8e9f00112233445502"
START_SECONDS = 30


def read_program(language: str) -> str:
    (program,) = find_blocks(PAGE, THIS_TEST, language)
    return program


@asynccontextmanager
async def start_receiver(language: str, folder: Path) -> AsyncIterator[str]:
    """Start a receiver of the page in a folder, on a free port; yield its address."""
    program = {"python": sys.executable, "js": shutil.which("node")}[language]
    assert program, "Node.js is missing: `apt-get install nodejs npm`, or nodejs.org"
    port = free_port()
    script = folder / f"receiver.{language}"
    assert PORT in read_program(language)
    script.write_text(read_program(language).replace(PORT, str(port)))
    with (folder / "receiver.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            program, script, cwd=folder, stdout=log, stderr=log
        )

    async def listens() -> bool:
        assert process.returncode is None, (folder / "receiver.log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return False
        writer.close()
        return True

    try:
        await eventually(listens, START_SECONDS, every=0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def read_handled(language: str, folder: Path) -> list[tuple[str, str]]:
    """The ids and greetings that a receiver has stored."""
    if language == "python":
        with sqlite3.connect(folder / "handled.db") as db:
            return db.execute("SELECT id, greeting FROM handled ORDER BY rowid").fetchall()
    lines = (folder / "handled.jsonl").read_text().splitlines()
    return [(one["id"], one["greeting"]) for one in map(json.loads, lines)]


async def deliver(url: str, execution_id: str, attempt: int, greeting: str) -> str | None:
    """Deliver an attempt by the http target of the service; return the body of the response."""
    delivery = make_delivery(
        execution_id=execution_id, attempt=attempt, parameters={"greeting": greeting}
    )
    async with open_target() as target:
        outcome = await target.deliver(HttpTargetSpec(url=url), delivery)
    assert outcome.response is not None, outcome.error
    assert outcome.response.status == 200, outcome.response.body
    return outcome.response.body


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_receiver_handles_each_execution_once_also_after_its_restart(
    language: str, tmp_path: Path
) -> None:
    async with start_receiver(language, tmp_path) as url:
        assert await deliver(url, FIRST, 1, "good morning") == "done"
        assert await deliver(url, FIRST, 2, "good morning") == "done before"
        assert await deliver(url, SECOND, 1, "güten Tag") == "done"
    async with start_receiver(language, tmp_path) as url:
        assert await deliver(url, SECOND, 2, "güten Tag") == "done before"
    assert read_handled(language, tmp_path) == [(FIRST, "good morning"), (SECOND, "güten Tag")]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_attempts_of_an_execution_that_overlap_are_handled_once(
    language: str, tmp_path: Path
) -> None:
    async with start_receiver(language, tmp_path) as url:
        answers = await asyncio.gather(
            *(deliver(url, FIRST, attempt, "hello") for attempt in range(1, 11))
        )
    assert sorted(str(answer) for answer in answers) == ["done"] + ["done before"] * 9
    assert read_handled(language, tmp_path) == [(FIRST, "hello")]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_receiver_survives_a_request_that_it_cannot_read(
    language: str, tmp_path: Path
) -> None:
    async with start_receiver(language, tmp_path) as url, open_target() as target:
        outcome = await target.deliver(HttpTargetSpec(url=url, body="no JSON"), DELIVERY)
        assert outcome.outcome == "failed"
        assert await deliver(url, FIRST, 1, "hello") == "done"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_receiver_has_at_most_20_lines(language: str) -> None:
    assert len(read_program(language).splitlines()) <= MAX_LINES


async def test_the_commands_of_the_page_call_the_receiver(tmp_path: Path) -> None:
    create, show = find_blocks(PAGE, THIS_TEST, "sh")
    async with (
        start_receiver("python", tmp_path) as url,
        Service(tmp_path / "data") as service,
    ):
        token = service.client.headers["Authorization"].removeprefix("Bearer ")
        local = {"http://127.0.0.1:8000": service.url, "http://127.0.0.1:9000": url}

        async def run(script: str) -> str:
            for shown, used in local.items():
                script = script.replace(shown, used)
            env = {"PATH": os.environ["PATH"], "TOKEN": token, "JOB": job}
            code, output = await run_program(
                "bash", "-euo", "pipefail", "-c", script, env=env, seconds=START_SECONDS
            )
            assert code == 0, output
            return output

        job = ""
        execution = json.loads(await run(create))
        assert execution["kind"] == "manual"
        job = execution["job_id"]
        await eventually(lambda: len(read_handled("python", tmp_path)) == 1, START_SECONDS)

        async def is_recorded() -> bool:
            return bool((await service.list_executions(job))[0]["finished_at"])

        await eventually(is_recorded, START_SECONDS, every=0.1)
        (shown,) = json.loads(await run(show))["items"]
    assert shown["id"] == execution["id"]
    assert [attempt["response"]["body"] for attempt in shown["attempts"]] == ["done"]
    assert read_handled("python", tmp_path) == [(execution["id"], "good morning")]
