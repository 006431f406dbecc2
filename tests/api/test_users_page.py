"""docs/users.md says what each role may do, and how to change a user in the database."""

import json
import re
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.models.user import Role
from tests.api.test_access import ROUTES
from tests.support.api import Api, JsonBody, create_job
from tests.support.documents import find_blocks, read_rows
from tests.support.service import PASSWORD, ROOT

PAGE = ROOT / "docs" / "users.md"
THIS_TEST = "tests/api/test_users_page.py"
NEW_PASSWORD = "another horse battery"

Call = tuple[str, str]
WITHOUT_ID: dict[Call, dict[str, Any]] = {
    ("GET", "/jobs"): {},
    ("GET", "/executions"): {},
    ("POST", "/jobs"): {"json": {"name": "new"}},
    ("POST", "/schedules/preview"): {"json": {"type": "interval", "interval_seconds": 60}},
}
WITH_ID: dict[Call, dict[str, Any]] = {
    (method, re.sub(r"{(\w+)}", r"{\1_id}", path)): options for method, path, options in ROUTES
}


def read_rules(role: Role) -> dict[Call, str]:
    """What the page says about each call: `own`, `all`, `yes` or `no`."""
    column = ["viewer", "editor", "admin"].index(role) + 1
    rules: list[tuple[Call, str]] = []
    for row in read_rows(PAGE, "call"):
        calls = re.findall(r"`([A-Z]+) (\S+)`", row[0])
        rules += [((method, path), row[column]) for method, path in calls]
    assert len(dict(rules)) == len(rules), "a call is in two rows"
    return dict(rules)


def test_the_page_names_each_call_that_needs_a_token(api: Api) -> None:
    calls = {
        (method.upper(), path)
        for path, methods in api.app.openapi()["paths"].items()
        for method, operation in methods.items()
        if operation.get("security")
    }
    assert calls == set(WITHOUT_ID) | set(WITH_ID)
    for role in Role:
        assert set(read_rules(role)) == calls


async def make_ids(client: httpx2.AsyncClient) -> dict[str, str]:
    """The ids of a new job of a user, with an execution and a schedule."""
    job = await create_job(client, interval=3_600)
    execution = (await client.post(f"/jobs/{job['id']}/execute")).json()
    schedule = job["schedules"][0]["id"]
    return {"job_id": job["id"], "execution_id": execution["id"], "schedule_id": schedule}


async def give_role(api: Api, username: str, role: Role) -> None:
    users = api.database.collection("users")
    await users.update_one({"username": username}, {"$set": {"role": role}})


async def find_rule(api: Api, client: httpx2.AsyncClient, role: Role, call: Call) -> str:
    """What bob may do with this role: send the call for a job of his own, and for one of alice."""
    await give_role(api, "bob", Role.EDITOR)
    method, path = call
    statuses = []
    for owner in ("bob", "alice"):
        async with api.open_client(owner) as owners:
            ids = await make_ids(owners)
        await give_role(api, "bob", role)
        response = await client.request(method, path.format(**ids), **WITH_ID[call])
        statuses.append(response.status_code)
    match statuses:
        case [403, 403]:
            return "no"
        case [own, 404] if is_allowed(own):
            return "own"
        case [own, other] if is_allowed(own) and is_allowed(other):
            return "all"
    return f"{statuses}"


def is_allowed(status: int) -> bool:
    """The `retry` of a queued execution is allowed, but a 409."""
    return status < 400 or status == 409


@pytest.mark.parametrize("role", Role)
async def test_each_role_may_do_what_the_page_says(
    api: Api, bob: httpx2.AsyncClient, role: Role
) -> None:
    rules = read_rules(role)
    assert {call: await find_rule(api, bob, role, call) for call in WITH_ID} == {
        call: rules[call] for call in WITH_ID
    }


@pytest.mark.parametrize("role", Role)
async def test_each_role_lists_and_creates_what_the_page_says(
    api: Api, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, role: Role
) -> None:
    await make_ids(alice)
    await make_ids(bob)
    await give_role(api, "bob", role)
    found = {}
    for (method, path), options in WITHOUT_ID.items():
        response = await bob.request(method, path, **options)
        if method == "GET":
            found[method, path] = {1: "own", 2: "all"}[len(response.json()["items"])]
        else:
            assert response.is_success or response.status_code == 403
            found[method, path] = "yes" if response.is_success else "no"
    rules = read_rules(role)
    assert found == {call: rules[call] for call in WITHOUT_ID}


async def run_statement(api: Api, statement: str) -> None:
    """Run a statement of the page as mongosh does."""
    users = api.database.collection("users")
    find = re.search(r"db\.users\.findOne\((.*?)\)\.(\w+)", statement)
    if find:
        document = await users.find_one(json.loads(find[1]))
        assert document is not None
        statement = statement.replace(find[0], json.dumps(document[find[2]]))
    call = re.fullmatch(r"db\.users\.(\w+)\((.*)\)", statement)
    assert call, statement
    arguments: list[JsonBody] = json.loads(f"[{call[2].replace('new Date()', 'null')}]")
    if call[1] == "deleteOne":
        (filter_,) = arguments
        assert (await users.delete_one(filter_)).deleted_count == 1
        return
    assert call[1] == "updateOne"
    filter_, update = arguments
    changes = {name: api.clock.now() if v is None else v for name, v in update["$set"].items()}
    assert (await users.update_one(filter_, {"$set": changes})).modified_count == 1


async def run_block(api: Api, word: str) -> None:
    """Run the statements of the one block of the page that has this word."""
    (block,) = [one for one in find_blocks(PAGE, THIS_TEST, "js") if word in one]
    for statement in block.splitlines():
        await run_statement(api, statement)


async def sign_in(client: httpx2.AsyncClient, username: str, password: str) -> int:
    form = {"username": username, "password": password}
    return (await client.post("/token", data=form)).status_code


async def test_bob_gets_a_new_password(api: Api, nobody: httpx2.AsyncClient) -> None:
    assert await sign_in(nobody, "bob", PASSWORD) == 200
    await api.runtime.auth.add_user("bob-new", NEW_PASSWORD, Role.EDITOR)
    await run_block(api, "password_hash")
    assert await sign_in(nobody, "bob", NEW_PASSWORD) == 200
    assert await sign_in(nobody, "bob", PASSWORD) == 401
    assert await sign_in(nobody, "bob-new", NEW_PASSWORD) == 401


async def test_the_tokens_of_bob_end_and_he_signs_in_again(
    api: Api, bob: httpx2.AsyncClient, nobody: httpx2.AsyncClient
) -> None:
    api.clock.advance(timedelta(seconds=1))
    await run_block(api, "tokens_valid_from")
    assert (await bob.get("/jobs")).status_code == 401
    assert await sign_in(nobody, "bob", PASSWORD) == 200


async def test_bob_gets_another_role(api: Api, bob: httpx2.AsyncClient) -> None:
    await run_block(api, "role")
    assert (await bob.get("/jobs")).status_code == 200
    assert (await bob.post("/jobs", json={"name": "x"})).status_code == 403


async def test_the_account_of_bob_ends(
    api: Api, bob: httpx2.AsyncClient, nobody: httpx2.AsyncClient
) -> None:
    await run_block(api, "active")
    assert (await bob.get("/jobs")).status_code == 401
    assert await sign_in(nobody, "bob", PASSWORD) == 401
