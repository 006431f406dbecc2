"""The API with valid and invalid requests, and sequences of requests, that a fuzzer generates from
the OpenAPI document."""

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import uvicorn

from tests.support.api import Api, JsonBody
from tests.support.programs import run_program
from tests.support.service import ROOT, free_port
from tests.support.waiting import eventually

SECONDS = 200
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 20)]
TARGET = {"type": "http", "url": "https://example.com/hook"}
# The service also rejects bodies that match the document, for example a cron expression that never
# fires. So this check of schemathesis is off.
EXCLUDED_CHECK = "positive_data_acceptance"
# A request with many hops is a 508, which is no fault of the service. And the history of a deleted
# job stays readable until retention, so this GET is a 200 after DELETE.
CHECKS = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "508"]

[[operations]]
include-path = "/jobs/{job_id}/executions"
checks.use_after_free.enabled = false
"""


@pytest.fixture
async def url(api: Api) -> AsyncIterator[str]:
    """The API on a port, without an engine, so that nothing is delivered."""
    config = uvicorn.Config(api.app, port=free_port(), lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with contextlib.suppress(asyncio.CancelledError):
        task = asyncio.create_task(server.serve())
        await eventually(lambda: server.started)
        yield f"http://127.0.0.1:{config.port}"
        server.should_exit = True
        await task


async def create_resources(client: httpx2.AsyncClient) -> dict[str, list[str]]:
    """Create three jobs, each with a schedule and an execution. Return their ids by the name of the
    path parameter."""
    ids: dict[str, list[str]] = {"job_id": [], "schedule_id": [], "execution_id": []}
    for n in range(3):
        job = {"name": f"job {n}", "interval": 3600, "target": TARGET}
        created = (await client.post("/jobs", json=job)).json()
        execution = (await client.post(f"/jobs/{created['id']}/execute")).json()
        ids["job_id"].append(created["id"])
        ids["schedule_id"].append(created["schedules"][0]["id"])
        ids["execution_id"].append(execution["id"])
    return ids


async def read_everything(client: httpx2.AsyncClient) -> list[JsonBody]:
    return [(await client.get(path)).json() for path in ("/jobs", "/executions")]


async def fuzz(url: str, folder: Path, hook_input: JsonBody, phases: str, *, seed: int) -> None:
    """Run the fuzzer. Fail the test if it reports an error; its output is printed."""
    code, output = await run_program(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--phases", phases, "--exclude-checks", EXCLUDED_CHECK, "--max-examples", "8"),
        *("--seed", str(seed), "--generation-database", "none"),
        *("--warnings", "off", "--no-color"),
        cwd=folder,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "tests.api.fuzzing_hooks",
            "PYTHONPATH": str(ROOT),
            "FUZZING": json.dumps(hook_input),
        },
        seconds=SECONDS,
    )
    sys.stdout.write(output)
    if code != 0:
        pytest.fail("the fuzzer reported an error, see its output", pytrace=False)


@pytest.mark.parametrize(
    ("name", "other", "phases"),
    [("alice", "bob", "examples,coverage,fuzzing,stateful"), ("bob", "alice", "fuzzing,stateful")],
)
async def test_responses_to_a_user_are_documented_and_never_contain_another_users_data(
    api: Api, url: str, tmp_path: Path, name: str, other: str, phases: str
) -> None:
    async with api.open_client(name) as own_client, api.open_client(other) as other_client:
        own = await create_resources(own_client)
        foreign = await create_resources(other_client)
        before = await read_everything(other_client)
        users = [
            {
                "name": user,
                "fixedHeaders": [
                    {"name": "Authorization", "value": f"Bearer {api.issue_token(user)}"}
                ],
            }
            for user in (name, other)
        ]
        (tmp_path / "auth.json").write_text(json.dumps({"auth": users}))
        (tmp_path / "schemathesis.toml").write_text(
            f'[auth.wfc]\npath = "auth.json"\nuser = "{name}"\npeers = ["{name}", "{other}"]\n'
            + CHECKS
        )
        hook_input = {
            "ids": {kind: own[kind] + foreign[kind] for kind in own},
            "foreign": [api.ids[other], *itertools.chain(*foreign.values())],
            "status": None,
        }
        await fuzz(url, tmp_path, hook_input, phases, seed=1 if name == "alice" else 2)
        assert await read_everything(other_client) == before


async def test_responses_without_a_token_contain_no_data(
    api: Api, url: str, tmp_path: Path
) -> None:
    async with api.open_client("alice") as alice:
        ids = await create_resources(alice)
        before = await read_everything(alice)
        hook_input = {"ids": ids, "foreign": [*itertools.chain(*ids.values())], "status": 401}
        await fuzz(url, tmp_path, hook_input, "examples,fuzzing", seed=3)
        assert await read_everything(alice) == before
