"""Rules of all routes: problems, request ids, paths and headers."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from app.errors import UnavailableError
from tests.support.api import Api, assert_problem


async def test_404_and_405_are_problems(alice: httpx2.AsyncClient) -> None:
    assert_problem(await alice.get("/nowhere"), 404)
    assert_problem(await alice.get("/static/nowhere.js"), 404)
    response = await alice.delete("/jobs")
    assert assert_problem(response, 405)["type"] == "urn:carillon:problem:method_not_allowed"
    assert set(response.headers["allow"].split(", ")) == {"GET", "POST"}


async def test_a_405_names_only_the_methods_of_the_literal_path(alice: httpx2.AsyncClient) -> None:
    response = await alice.request("OPTIONS", "/schedules/preview")
    assert assert_problem(response, 405)
    assert response.headers["allow"] == "POST"


async def test_a_500_does_not_describe_the_bug(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a secret of ours")

    monkeypatch.setattr(api.jobs, "get", fail)
    with capture_logs() as logs:
        response = await alice.get(f"/jobs/{'0' * 32}", headers={"X-Request-ID": "mine"})
    assert [log["request_id"] for log in logs if log["event"] == "request_failed"] == ["mine"]
    body = assert_problem(response, 500)
    assert body["request_id"] == "mine"
    assert "secret" not in response.text
    assert "ZeroDivision" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"


async def test_a_database_that_is_down_is_a_503(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise UnavailableError("The database does not respond.")

    monkeypatch.setattr(api.jobs, "now", fail)
    response = await alice.post("/jobs", json={"name": "x"})
    assert_problem(response, 503)
    assert int(response.headers["retry-after"]) > 0


async def test_a_request_id_is_accepted_or_generated(nobody: httpx2.AsyncClient) -> None:
    response = await nobody.get("/ping", headers={"X-Request-ID": "abc-123"})
    assert response.headers["x-request-id"] == "abc-123"
    generated = set()
    for bad in ("", "a b", "x" * 129, "\x7f", "é"):
        response = await nobody.get("/ping", headers=[(b"X-Request-ID", bad.encode("latin-1"))])
        generated.add(response.headers["x-request-id"])
    assert len(generated) == 5
    assert all(re.fullmatch(r"[0-9a-f]{32}", id_) for id_ in generated)


async def test_a_trailing_slash_works_without_a_redirect(alice: httpx2.AsyncClient) -> None:
    response = await alice.post("/jobs/", json={"name": "x"})
    assert response.status_code == 201
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert (await alice.get("/jobs/?fields=full")).json()["items"] == [job]
    assert (await alice.get(f"/jobs/{job['id']}/")).json() == job
    assert (await alice.post(f"/jobs/{job['id']}/execute/")).status_code == 202
    assert (await alice.get("/ping/")).status_code == 200
    assert (await alice.get("/health/live/")).status_code == 200


async def test_the_old_paths_work_and_are_hidden(api: Api, alice: httpx2.AsyncClient) -> None:
    for path in ("/scheduler/jobs/", "/scheduler/jobs"):
        assert (await alice.post(path, json={"name": "x"})).status_code == 201
    jobs = (await alice.get("/scheduler/jobs/?fields=full")).json()["items"]
    assert len(jobs) == 2
    path = f"/scheduler/jobs/{jobs[0]['id']}"
    assert (await alice.get(path)).json() == jobs[0]
    assert (await alice.put(f"{path}/", json={"name": "y"})).json()["name"] == "y"
    assert (await alice.post(f"{path}/execute")).status_code == 202
    assert len((await alice.get(f"{path}/executions")).json()["items"]) == 1
    assert (await alice.delete(path)).status_code == 204
    assert not [path for path in api.app.openapi()["paths"] if path.startswith("/scheduler")]
    assert_problem(await alice.get("/scheduler"), 404)
    assert_problem(await alice.get("/scheduler/jobsx"), 404)


async def test_responses_forbid_sniffing_and_shared_caching(alice: httpx2.AsyncClient) -> None:
    for path in ("/jobs", "/ping", "/nowhere", "/docs"):
        caching = "private, no-cache" if path == "/jobs" else "no-store"
        response = await alice.get(path)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == caching


async def test_a_slow_body_is_a_408(api: Api) -> None:
    async def send_one_byte() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    [limit] = [m for m in api.app.user_middleware if "limit_of" in m.kwargs]
    limit.kwargs["receive_seconds"] = 0.05
    async with api.open_client("alice") as alice:
        response = await alice.post(
            "/jobs", content=send_one_byte(), headers={"Content-Type": "application/json"}
        )
    assert_problem(response, 408)
