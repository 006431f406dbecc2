"""What a process serves and runs, by its role."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest

from tests.support.api import Api, assert_problem, create_job
from tests.support.engine import World, open_world

HEALTH = ["/ping", "/ping/", "/health", "/health/live", "/health/ready"]
OTHERS = [
    ("GET", "/"),
    ("GET", "/jobs"),
    ("POST", "/jobs"),
    ("GET", "/scheduler/jobs"),
    ("GET", "/executions"),
    ("POST", "/token"),
    ("GET", "/docs"),
    ("GET", "/swagger"),
    ("GET", "/openapi.json"),
    ("GET", "/static/swagger/swagger-ui.css"),
    ("GET", "/nowhere"),
    ("GET", "/healthy"),
    ("GET", "/health/nowhere"),
    ("OPTIONS", "/jobs"),
]
LOOPS_OF_ENGINE = {
    "reaper",
    "janitor",
    "trimmer",
    "response_trimmer",
    "revision_janitor",
    "invalidator",
}
LOOPS_OF_WORKER = {"worker", "watch", "guard", "history_limit"}


def set_role(api: Api, role: str) -> None:
    settings = api.runtime.settings.model_copy(update={"role": role})
    api.app.state.runtime = replace(api.runtime, settings=settings)


@pytest.mark.parametrize("role", ["scheduler", "worker"])
async def test_a_process_without_the_api_serves_only_its_health(
    api: Api, alice: httpx2.AsyncClient, role: str
) -> None:
    set_role(api, role)
    for path in HEALTH:
        assert (await alice.get(path)).status_code == 200, path
    for method, path in OTHERS:
        problem = assert_problem(await alice.request(method, path), 404)
        assert (
            f"This process does not serve the API, because its role is {role}. It serves only "
            "/ping, /health, /health/live and /health/ready." in problem["detail"]
        ), path


@pytest.mark.parametrize("role", ["scheduler", "worker"])
async def test_a_process_without_the_api_changes_nothing(
    api: Api, alice: httpx2.AsyncClient, role: str
) -> None:
    job = await create_job(alice)
    set_role(api, role)
    assert_problem(await alice.delete(f"/jobs/{job['id']}"), 404)
    assert_problem(await alice.post("/jobs", json={"name": "another"}), 404)
    set_role(api, "api")
    page = (await alice.get("/jobs")).json()
    assert [item["id"] for item in page["items"]] == [job["id"]]


@pytest.mark.parametrize("role", ["scheduler", "worker"])
async def test_a_prefix_of_a_proxy_changes_nothing(
    api: Api, alice: httpx2.AsyncClient, role: str
) -> None:
    set_role(api, role)
    transport = httpx2.ASGITransport(app=api.app, root_path="/carillon")
    async with httpx2.AsyncClient(transport=transport, base_url="http://carillon.test") as client:
        assert (await client.get("/carillon/ping")).status_code == 200
        assert_problem(await client.get("/carillon/jobs"), 404)


@pytest.mark.parametrize("role", ["all", "api"])
async def test_a_process_with_the_api_serves_it(
    api: Api, alice: httpx2.AsyncClient, role: str
) -> None:
    set_role(api, role)
    for path in [*HEALTH, "/jobs", "/executions", "/docs", "/openapi.json"]:
        assert (await alice.get(path)).status_code == 200, path


@pytest.fixture
async def world(mongo_uri: str, database_name: str) -> AsyncIterator[World]:
    world = await open_world(mongo_uri, database_name)
    yield world
    await world.close()


@pytest.mark.parametrize(
    ("role", "loops"),
    [
        ("all", LOOPS_OF_ENGINE | LOOPS_OF_WORKER | {"scheduler"}),
        ("scheduler", LOOPS_OF_ENGINE | {"scheduler"}),
        ("worker", LOOPS_OF_ENGINE | LOOPS_OF_WORKER),
        ("api", set()),
    ],
)
async def test_a_process_runs_the_loops_of_its_role(
    world: World, role: str, loops: set[str]
) -> None:
    process = world.compose_process(role=role)
    assert {loop.name for loop in process.runtime.engine.loops} == loops
