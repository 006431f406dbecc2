"""Rules of all routes: problems, request ids, paths, headers, documentation, health."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from app.errors import UnavailableError
from app.services import health
from app.services.health import LoopProbe
from tests.support.api import Api, assert_problem, open_api


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


async def test_a_database_that_is_down_is_a_503(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise UnavailableError("The database does not response.")

    monkeypatch.setattr(api.jobs, "now", fail)
    response = await alice.post("/jobs", json={"name": "x"})
    assert_problem(response, 503)
    assert int(response.headers["retry-after"]) > 0


async def test_a_request_id_is_accepted_or_generated(nobody: httpx2.AsyncClient) -> None:
    response = await nobody.get("/ping", headers={"X-Request-ID": "abc-123"})
    assert response.headers["x-request-id"] == "abc-123"
    made = set()
    for bad in ("", "a b", "x" * 129, "\x7f", "é"):
        response = await nobody.get("/ping", headers=[(b"X-Request-ID", bad.encode("latin-1"))])
        made.add(response.headers["x-request-id"])
    assert len(made) == 5
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in made)


async def test_a_trailing_slash_works_without_a_redirect(alice: httpx2.AsyncClient) -> None:
    response = await alice.post("/jobs/", json={"name": "x"})
    assert response.status_code == 201
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert (await alice.get("/jobs/")).json()["items"] == [job]
    assert (await alice.get(f"/jobs/{job['id']}/")).json() == job
    assert (await alice.post(f"/jobs/{job['id']}/execute/")).status_code == 202
    assert (await alice.get("/ping/")).status_code == 200
    assert (await alice.get("/health/live/")).status_code == 200


async def test_the_old_paths_work_and_are_hidden(api: Api, alice: httpx2.AsyncClient) -> None:
    for path in ("/scheduler/jobs/", "/scheduler/jobs"):
        assert (await alice.post(path, json={"name": "x"})).status_code == 201
    jobs = (await alice.get("/scheduler/jobs/")).json()["items"]
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


async def test_responses_forbid_sniffing_and_storing(alice: httpx2.AsyncClient) -> None:
    for path in ("/jobs", "/ping", "/nowhere", "/docs"):
        stored = "private, no-cache" if path == "/jobs" else "no-store"
        response = await alice.get(path)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == stored


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/swagger", "/swagger/"])
async def test_the_documentation_loads_nothing_from_the_network(
    nobody: httpx2.AsyncClient, path: str
) -> None:
    page = await nobody.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "'self'" in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("<!DOCTYPE", "")
    links = re.findall(r'(?:src|href|data-[a-z0-9-]+-url)="([^"]+)"', page.text)
    assert len(links) == 6
    for link in links:
        assert link.startswith("/")
        assert (await nobody.get(link)).status_code == 200


async def test_swagger_ui_loads_our_document_and_uses_no_validator(
    nobody: httpx2.AsyncClient,
) -> None:
    script = (await nobody.get("/static/swagger/start.js")).text
    assert "validatorUrl: null" in script
    assert "http" not in script
    redirect = await nobody.get("/static/swagger/oauth2-redirect.html")
    assert 'src="oauth2-redirect.js"' in redirect.text
    assert (await nobody.get("/static/swagger/oauth2-redirect.js")).status_code == 200


async def test_the_documentation_works_behind_a_prefix(api: Api) -> None:
    transport = httpx2.ASGITransport(app=api.app, root_path="/carillon")
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        page = await client.get("/carillon/docs/")
    assert 'data-openapi-url="/carillon/openapi.json"' in page.text
    assert 'src="/carillon/static/swagger/start.js"' in page.text


async def test_the_document_describes_every_route(nobody: httpx2.AsyncClient) -> None:
    document = (await nobody.get("/openapi.json")).json()
    operations = [
        operation for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"]
        if "requestBody" in operation and operation["operationId"] != "sign_in":
            assert operation["requestBody"]["content"]["application/json"]["examples"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["schemas"]["Problem"]["properties"]["errors"]


async def test_the_authorize_button_knows_where_to_sign_in(nobody: httpx2.AsyncClient) -> None:
    document = (await nobody.get("/openapi.json")).json()
    [scheme] = document["components"]["securitySchemes"].values()
    assert scheme["flows"]["password"]["tokenUrl"] == "token"
    assert document["paths"]["/jobs"]["get"]["security"]
    assert "security" not in document["paths"]["/ping"]["get"]


async def test_every_example_is_a_valid_body(alice: httpx2.AsyncClient) -> None:
    document = (await alice.get("/openapi.json")).json()

    def examples(path: str, method: str) -> list[Any]:
        content = document["paths"][path][method]["requestBody"]["content"]["application/json"]
        return [example["value"] for example in content["examples"].values()]

    for body in examples("/jobs", "post"):
        response = await alice.post("/jobs", json=body)
        assert response.status_code == 201, response.text
    job = (await alice.post("/jobs", json={"name": "x", "interval": 60})).json()
    for body in examples("/jobs/{job_id}", "patch"):
        response = await alice.patch(f"/jobs/{job['id']}", json=body)
        assert response.status_code == 200, response.text
    for body in examples("/jobs/{job_id}/execute", "post"):
        assert (await alice.post(f"/jobs/{job['id']}/execute", json=body)).status_code == 202


async def test_health(api: Api, nobody: httpx2.AsyncClient) -> None:
    assert (await nobody.get("/ping")).json() == {"message": "pong"}
    assert (await nobody.get("/health/live")).json() == {"status": "live"}
    ready = await nobody.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "checks": {"database": "ok", "redis": "ok", "schema": "ok"},
    }


async def test_readiness_names_the_failing_part(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(health, "_TIMEOUT", timedelta(seconds=0.05))
    ages: dict[str, float | None] = {"scheduler": 1.0, "worker": 31.0, "reaper": None}
    loops = tuple(LoopProbe(name, lambda name=name: ages[name]) for name in ages)  # type: ignore[misc]
    nowhere = "redis://127.0.0.1:1/0"
    async with open_api(mongo_uri, database_name, nowhere, loops=loops) as api:
        monkeypatch.setattr(api.database, "ping", hang)
        async with api.client() as nobody:
            response = await nobody.get("/health/ready")
    body = assert_problem(response, 503)
    checks = body["checks"]
    assert checks["scheduler"] == "ok"
    assert checks["worker"] == "is 31 s late with its next round"
    for part in ("database", "redis", "worker", "reaper"):
        assert checks[part] != "ok"
        assert part in body["detail"]


async def test_a_slow_body_is_a_408(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    [limit] = [m for m in api.app.user_middleware if "limit_of" in m.kwargs]
    limit.kwargs["receive_seconds"] = 0.05
    async with api.client("alice") as alice:
        response = await alice.post(
            "/jobs", content=dripping(), headers={"Content-Type": "application/json"}
        )
    assert_problem(response, 408)
