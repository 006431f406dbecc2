"""All routes, dependencies and middleware take the runtime from `get_runtime`."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from app.errors import ConfigurationError
from app.main import create_app
from app.models.user import Role
from app.routers.deps import get_runtime
from app.runtime import Runtime
from app.settings import Settings
from tests.support.api import MAX_REQUEST_BYTES, Api, assert_problem
from tests.support.service import PASSWORD


def override_by_function(runtime: Runtime) -> Callable[[], object]:
    return lambda: runtime


def override_by_coroutine_function(runtime: Runtime) -> Callable[[], object]:
    async def get() -> Runtime:
        return runtime

    return get


@pytest.fixture(params=[override_by_function, override_by_coroutine_function])
async def overridden(api: Api, request: pytest.FixtureRequest) -> Api:
    """The API with another application, which has no `app.state.runtime`."""
    api.app = create_app()
    api.app.dependency_overrides[get_runtime] = request.param(api.runtime)
    return api


async def test_an_override_of_get_runtime_serves_every_kind_of_route(overridden: Api) -> None:
    assert not hasattr(overridden.app.state, "runtime")
    async with overridden.open_client("alice") as alice:
        assert (await alice.get("/ping")).status_code == 200
        assert (await alice.get("/health/ready")).status_code == 200
        form = {"username": "alice", "password": PASSWORD}
        assert (await alice.post("/token", data=form)).status_code == 200
        created = await alice.post("/jobs", json={"name": "x", "interval": 60})
        assert created.status_code == 201
        path = created.headers["location"]
        assert (await alice.get(path)).json() == created.json()
        assert (await alice.patch(path, json={"name": "y"})).status_code == 200
        assert (await alice.post(f"{path}/execute")).status_code == 202
        assert (await alice.get("/executions")).status_code == 200
        assert (await alice.delete(path)).status_code == 204


async def test_an_override_of_get_runtime_serves_idempotency_keys(overridden: Api) -> None:
    async with overridden.open_client("alice", **{"Idempotency-Key": "once"}) as alice:
        first, second = [await alice.post("/jobs", json={"name": "x"}) for _ in range(2)]
    assert first.status_code == second.status_code == 201
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json()["id"] == first.json()["id"]


async def test_an_override_of_get_runtime_authenticates_before_the_body_is_read(
    overridden: Api,
) -> None:
    async with overridden.open_client() as nobody:
        assert_problem(await nobody.post("/jobs", content=b"not JSON"), 401)
    async with overridden.open_client("viewer") as viewer:
        assert_problem(await viewer.post("/jobs", json={"name": "x"}), 403)
    await overridden.add_user("carol", Role.EDITOR)
    async with overridden.open_client("carol") as carol:
        assert (await carol.post("/jobs", json={"name": "x"})).status_code == 201


async def test_an_override_of_get_runtime_sets_the_limit_of_bodies(overridden: Api) -> None:
    async with overridden.open_client("alice") as alice:
        response: httpx2.Response = await alice.post(
            "/jobs", json={"name": "x", "description": "x" * MAX_REQUEST_BYTES}
        )
    assert_problem(response, 413)


async def test_an_application_without_a_runtime_rejects_a_weak_secret_on_any_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """uvicorn's command listens on its --host, whatever HOST is."""
    opened: list[Settings] = []

    @asynccontextmanager
    async def record(settings: Settings) -> AsyncIterator[Runtime]:
        opened.append(settings)
        raise InterruptedError
        yield

    monkeypatch.setattr("app.main.open_runtime", record)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOST", "127.0.0.1")
    app = create_app()
    monkeypatch.setenv("SECRET_KEY", "weak")
    with pytest.raises(ConfigurationError, match="SECRET_KEY must have at least 32 bytes"):
        async with app.router.lifespan_context(app):
            pass
    assert opened == []
    for strong in ("", secrets.token_hex(32)):
        monkeypatch.setenv("SECRET_KEY", strong)
        with pytest.raises(InterruptedError):
            async with app.router.lifespan_context(app):
                pass
    assert len(opened) == 2
