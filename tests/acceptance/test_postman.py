"""The Postman collection is generated from the OpenAPI document, and all its requests succeed."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.update_openapi import SNAPSHOT
from tests.support.programs import run_program
from tests.support.service import PASSWORD, ROOT, USERNAME, Service

pytestmark = pytest.mark.slow
FOLDER = ROOT / "postman"
COLLECTION = FOLDER / "carillon.postman_collection.json"
ENVIRONMENT = FOLDER / "carillon.postman_environment.json"
TIMEOUT_SECONDS = 90


def list_requests(folder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in folder["item"]:
        if "item" in item:
            yield from list_requests(item)
        else:
            yield item


async def run_node(script: Path, *arguments: str | Path) -> tuple[int | None, str]:
    """Run a script with Node.js; return its exit code and its output."""
    assert shutil.which("node"), "Node.js is missing: `apt-get install nodejs npm`, or nodejs.org"
    assert (FOLDER / "node_modules").is_dir(), "newman is missing: `npm ci --prefix postman`"
    env = {"PATH": os.environ["PATH"], "NO_COLOR": "1"}
    return await run_program("node", script, *arguments, env=env, seconds=TIMEOUT_SECONDS)


async def test_the_collection_agrees_with_the_document(tmp_path: Path) -> None:
    """If this fails, run `make postman`. A new operation needs a step in postman/flow.mjs."""
    generated = tmp_path / "collection.json"
    code, output = await run_node(FOLDER / "make_collection.mjs", SNAPSHOT, generated)
    assert (code, output) == (0, "")
    assert generated.read_text() == COLLECTION.read_text()


async def test_a_new_operation_is_last_in_its_folder_and_is_reported(tmp_path: Path) -> None:
    document = json.loads(SNAPSHOT.read_text())
    ping = document["paths"]["/ping"]["get"]
    document["paths"]["/jobs/{job_id}/pong"] = {
        "get": ping | {"operationId": "pong", "summary": "Pong", "tags": ["Jobs"]}
    }
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    generated = tmp_path / "collection.json"
    code, output = await run_node(
        FOLDER / "make_collection.mjs", tmp_path / "openapi.json", generated
    )
    assert (code, output) == (0, "flow.mjs has no step for the operation pong.\n")
    folders = {folder["name"]: folder for folder in json.loads(generated.read_text())["item"]}
    assert folders["Jobs"]["item"][-1]["name"] == "Pong"


async def test_all_requests_of_the_collection_succeed(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    async with Service(tmp_path / "data") as service:
        code, output = await run_node(
            FOLDER / "node_modules/newman/bin/newman.js",
            *("run", COLLECTION, "--environment", ENVIRONMENT),
            *("--env-var", f"base_url={service.url}", "--env-var", f"username={USERNAME}"),
            *("--env-var", f"password={PASSWORD}"),
            *("--reporters", "cli,json", "--reporter-json-export", report),
        )
        assert code == 0, output
        assert (await service.call("GET", "/jobs"))["items"] == []
    result = json.loads(report.read_text())["run"]
    names = [item["name"] for item in list_requests(json.loads(COLLECTION.read_text()))]
    sent = [execution["item"]["name"] for execution in result["executions"]]
    assert list(dict.fromkeys(sent)) == names
    assert not result["failures"]
    checks = [check for execution in result["executions"] for check in execution["assertions"]]
    assert not [check for check in checks if check.get("skipped")]
    hosts = {tuple(execution["request"]["url"]["host"]) for execution in result["executions"]}
    assert hosts == {("127", "0", "0", "1")}


def test_every_variable_is_declared() -> None:
    collection = COLLECTION.read_text()
    declared = [v["key"] for v in json.loads(collection)["variable"]]
    declared += [v["key"] for v in json.loads(ENVIRONMENT.read_text())["values"]]
    assert set(re.findall(r"{{(\w+)}}", collection)) == set(declared)


def test_no_password_and_no_token_is_stored() -> None:
    values = {v["key"]: v["value"] for v in json.loads(ENVIRONMENT.read_text())["values"]}
    assert values == {"base_url": "http://127.0.0.1:8000", "username": "admin", "password": ""}
    variables = json.loads(COLLECTION.read_text())["variable"]
    assert {variable["value"] for variable in variables} == {""}


def test_every_job_with_an_http_target_is_paused() -> None:
    for item in list_requests(json.loads(COLLECTION.read_text())):
        body = json.loads(item["request"].get("body", {}).get("raw", "{}"))
        if body.get("target", {}).get("type") == "http":
            assert body["active"] is False, item["name"]


@pytest.mark.parametrize("name", ["newman", "openapi-to-postmanv2"])
def test_the_tools_are_pinned(name: str) -> None:
    wanted = json.loads((FOLDER / "package.json").read_text())["devDependencies"][name]
    locked = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    assert locked[f"node_modules/{name}"]["version"] == wanted


def test_package_lock_json_names_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    assert not [name for name, package in packages.items() if "resolved" in package]
