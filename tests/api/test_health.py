"""The health routes: ping, live and ready."""

import asyncio
from datetime import timedelta

import httpx2
import pytest

from app.engine.saturation import Saturation
from app.services import health
from app.services.health import LoopProbe
from tests.support.api import assert_problem, open_api
from tests.support.servers import UNREACHABLE_REDIS


async def test_the_health_routes_report_each_part(nobody: httpx2.AsyncClient) -> None:
    assert (await nobody.get("/ping")).json() == {"message": "pong"}
    assert (await nobody.get("/health/live")).json() == {"status": "live"}
    ready = await nobody.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "checks": {"database": "ok", "redis": "ok", "schema": "ok"},
        "warnings": {},
    }


async def test_health_is_another_path_of_readiness(nobody: httpx2.AsyncClient) -> None:
    health = await nobody.get("/health")
    assert health.status_code == 200
    assert health.json() == (await nobody.get("/health/ready")).json()


async def test_a_warning_does_not_make_the_service_unready(
    mongo_uri: str, database_name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Saturation, "describe", lambda _: "all slots are taken")
    async with open_api(mongo_uri, database_name, redis_url) as api, api.open_client() as nobody:
        ready = await nobody.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["warnings"] == {"slots": "all slots are taken"}


async def test_readiness_names_the_failing_part(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(health, "_TIMEOUT", timedelta(milliseconds=50))
    ages: dict[str, float | None] = {"scheduler": 1.0, "worker": 31.0, "reaper": None}
    loops = tuple(LoopProbe(name, lambda name=name: ages[name]) for name in ages)  # type: ignore[misc]
    async with open_api(mongo_uri, database_name, UNREACHABLE_REDIS, loops=loops) as api:
        monkeypatch.setattr(api.database, "ping", hang)
        async with api.open_client() as nobody:
            response = await nobody.get("/health/ready")
    body = assert_problem(response, 503)
    checks = body["checks"]
    assert checks["scheduler"] == "ok"
    for part in ("database", "redis", "worker", "reaper"):
        assert checks[part] != "ok"
        assert part in body["detail"]
