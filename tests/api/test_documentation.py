"""The pages of the documentation and the OpenAPI document that they show."""

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.api import Api


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


async def test_a_file_is_sent_from_memory_and_only_if_it_has_changed(
    nobody: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/static/swagger/swagger-ui-bundle.js"
    first = await nobody.get(path)
    assert first.headers["content-type"].startswith("text/javascript")
    assert int(first.headers["content-length"]) == len(first.content) > 1_000_000
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("a file was read"))
    assert (await nobody.get(path)).content == first.content
    unchanged = await nobody.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert (await nobody.head(path)).headers["content-length"] == first.headers["content-length"]


@pytest.mark.parametrize(
    "path", ["", "/", "/swagger", "/swagger/", "/../web.py", "/..%2f..%2fmain.py"]
)
async def test_other_paths_are_not_files(nobody: httpx2.AsyncClient, path: str) -> None:
    assert (await nobody.get(f"/static{path}")).status_code == 404


async def test_the_documentation_works_behind_a_prefix(api: Api) -> None:
    transport = httpx2.ASGITransport(app=api.app, root_path="/carillon")
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        page = await client.get("/carillon/docs/")
    assert 'data-openapi-url="/carillon/openapi.json"' in page.text
    assert 'src="/carillon/static/swagger/start.js"' in page.text


async def test_the_document_names_the_sign_in_path(nobody: httpx2.AsyncClient) -> None:
    document = (await nobody.get("/openapi.json")).json()
    [scheme] = document["components"]["securitySchemes"].values()
    assert scheme["flows"]["password"]["tokenUrl"] == "token"
    assert document["paths"]["/jobs"]["get"]["security"]
    assert "security" not in document["paths"]["/ping"]["get"]


async def test_every_example_is_a_valid_body(alice: httpx2.AsyncClient) -> None:
    document = (await alice.get("/openapi.json")).json()

    def list_examples(path: str, method: str) -> list[Any]:
        content = document["paths"][path][method]["requestBody"]["content"]["application/json"]
        return [example["value"] for example in content["examples"].values()]

    for body in list_examples("/jobs", "post"):
        response = await alice.post("/jobs", json=body)
        assert response.status_code == 201, response.text
    job = (await alice.post("/jobs", json={"name": "x", "interval": 60})).json()
    for body in list_examples("/jobs/{job_id}", "patch"):
        response = await alice.patch(f"/jobs/{job['id']}", json=body)
        assert response.status_code == 200, response.text
    for body in list_examples("/jobs/{job_id}/execute", "post"):
        assert (await alice.post(f"/jobs/{job['id']}/execute", json=body)).status_code == 202
