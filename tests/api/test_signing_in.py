"""`POST /token`, and the first admin."""

import asyncio
import contextlib
import threading
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from app import security
from app.errors import ConfigurationError, ConflictError, InvalidInputError
from app.models.user import Role
from app.routers import token as token_module
from app.schemas.tokens import parse_form
from app.security import TokenKey, verify_password
from app.services import auth as auth_module
from app.services.auth import PASSWORD_THREADS
from tests.support.api import (
    SECRET,
    Api,
    assert_names,
    assert_problem,
)
from tests.support.service import PASSWORD
from tests.support.waiting import eventually

WRONG = "wrong horse battery"


async def sign_in(
    client: httpx2.AsyncClient, username: str, password: str, **more: str
) -> httpx2.Response:
    form = {"username": username, "password": password, **more}
    return await client.post("/token", data=form)


async def test_a_token_is_valid_for_an_hour(api: Api, nobody: httpx2.AsyncClient) -> None:
    response = await sign_in(nobody, "alice", PASSWORD, grant_type="password")
    assert response.status_code == 200
    body = response.json()
    assert body["token_type"] == "bearer"
    assert body["expires_in"] == 3600
    assert response.headers["cache-control"] == "no-store"
    headers = {"Authorization": f"Bearer {body['access_token']}"}
    assert (await nobody.get("/jobs", headers=headers)).status_code == 200
    api.clock.advance(timedelta(minutes=59))
    assert (await nobody.get("/jobs", headers=headers)).status_code == 200
    api.clock.advance(timedelta(minutes=2))
    expired = await nobody.get("/jobs", headers=headers)
    body = assert_problem(expired, 401)
    assert body["type"] == "urn:carillon:problem:token_expired"
    assert body["detail"] == "The access token has expired; sign in again."
    assert expired.headers["www-authenticate"] == (
        f'Bearer error="invalid_token", error_description="{body["detail"]}"'
    )


@pytest.mark.parametrize("subject", ["\ud800", "a\0", "x" * 129, "\u0661"])
async def test_a_signed_token_with_an_impossible_user_is_a_401(
    api: Api, nobody: httpx2.AsyncClient, subject: str
) -> None:
    api.ids["impossible"] = subject
    headers = {"Authorization": f"Bearer {api.issue_token('impossible')}"}
    for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("DELETE", "/jobs/x")):
        assert_problem(await nobody.request(method, path, headers=headers), 401)


async def test_user_names_ignore_case(nobody: httpx2.AsyncClient) -> None:
    assert (await sign_in(nobody, "ALICE", PASSWORD)).status_code == 200


async def test_all_rejected_sign_ins_get_the_same_response_after_the_same_work(
    api: Api, nobody: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.add_user("carol", active=False)
    verified: list[str] = []

    def record_parameters(password: str, password_hash: str) -> security.PasswordCheck:
        verified.append(password_hash.rpartition("$")[0].rpartition("$")[0])
        return verify_password(password, password_hash)

    monkeypatch.setattr(auth_module, "verify_password", record_parameters)
    details = set()
    attempts = [
        ("nobody", WRONG),
        ("alice", WRONG),
        ("carol", PASSWORD),
        ("x" * 300, WRONG),
        ("alice", "x" * 3_900),
        ("$gt", WRONG),
        ("a\0", "a\0" * 10),
    ]
    for username, password in attempts:
        response = await sign_in(nobody, username, password)
        body = assert_problem(response, 401)
        details.add(body["detail"])
        assert response.headers["www-authenticate"] == "Bearer"
        assert password not in response.text
    assert len(details) == 1
    assert len(verified) == len(attempts)
    assert len(set(verified)) == 1  # the same parameters take the same time


async def test_passwords_are_hashed_off_the_event_loop(
    nobody: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()

    def record_thread(password: str, password_hash: str) -> security.PasswordCheck:
        threads.add(threading.current_thread().name)
        return verify_password(password, password_hash)

    monkeypatch.setattr(auth_module, "verify_password", record_thread)
    responses = await asyncio.gather(*(sign_in(nobody, "alice", PASSWORD) for _ in range(2)))
    assert {response.status_code for response in responses} == {200}
    assert all(name.startswith(PASSWORD_THREADS) for name in threads)
    assert 1 <= len(threads) <= 2


async def test_an_outdated_hash_is_renewed_at_sign_in(api: Api, nobody: httpx2.AsyncClient) -> None:
    outdated = security._PASSWORDS.using(argon2__time_cost=1).hash(PASSWORD)
    user = await api.add_user("carol", password_hash=outdated)
    assert (await sign_in(nobody, "carol", PASSWORD)).status_code == 200
    stored = await api.users.find(user.id)
    assert stored is not None
    assert "t=2" in stored.password_hash
    assert verify_password(PASSWORD, stored.password_hash).ok


@pytest.mark.parametrize(
    ("form", "pointer"),
    [
        ({"password": PASSWORD}, "/username"),
        ({"username": "alice"}, "/password"),
        ({"username": "alice", "password": PASSWORD, "grant_type": "magic"}, "/grant_type"),
    ],
)
async def test_an_invalid_form_names_the_field_and_does_not_repeat_the_password(
    nobody: httpx2.AsyncClient, form: dict[str, str], pointer: str
) -> None:
    response = await nobody.post("/token", data=form)
    assert_names(response, pointer)
    assert PASSWORD not in response.text


async def test_signing_in_by_json_works(nobody: httpx2.AsyncClient) -> None:
    body = {"username": "alice", "password": PASSWORD, "scope": ""}
    response = await nobody.post("/token", json=body)
    assert response.status_code == 200
    assert response.json()["access_token"]


@pytest.mark.parametrize(
    ("kind", "content", "pointer"),
    [
        ("application/json", b"{", ""),
        ("application/json", b"[]", ""),
        ("application/json", b"\xff", ""),
        ("application/json", b'{"username": "alice", "username": "bob", "password": "x"}', ""),
        ("application/json", b'{"username": 1, "password": "x"}', "/username"),
        ("application/x-www-form-urlencoded", b"&" * 4_096, "/username"),
        ("application/x-www-form-urlencoded", b"username=a&username=b&password=x", "/username"),
    ],
)
async def test_a_wrong_body_is_a_422(
    nobody: httpx2.AsyncClient, kind: str, content: bytes, pointer: str
) -> None:
    response = await nobody.post("/token", content=content, headers={"Content-Type": kind})
    assert_names(response, pointer)


async def test_a_body_over_4_kb_is_not_parsed(
    nobody: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []

    def record_size(body: bytes) -> dict[str, str]:
        parsed.append(len(body))
        return parse_form(body)

    monkeypatch.setattr(token_module, "parse_form", record_size)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for size, status in ((4_096, 422), (4_097, 413), (90_000, 413)):
        response = await nobody.post("/token", content=b"&" * size, headers=headers)
        assert_problem(response, status)
    assert parsed == [4_096]


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/plain", ""])
async def test_a_body_of_another_type_is_a_415(nobody: httpx2.AsyncClient, kind: str) -> None:
    content = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\nalice\r\n--x--'
    headers = {"Content-Type": kind} if kind else {}
    assert_problem(await nobody.post("/token", content=content, headers=headers), 415)


class SlowHashes:
    """Lets each check of a password wait until `may_end` is set."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = threading.Event()

    def verify(self, password: str, password_hash: str) -> security.PasswordCheck:
        self.begun += 1
        self.may_end.wait(30)
        return security.PasswordCheck(ok=False)


@pytest.fixture
def slow_hashes(monkeypatch: pytest.MonkeyPatch) -> SlowHashes:
    hashes = SlowHashes()
    monkeypatch.setattr(auth_module, "verify_password", hashes.verify)
    return hashes


def open_client_at(api: Api, address: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=api.app, client=(address, 5000))
    return httpx2.AsyncClient(transport=transport, base_url="http://carillon.test")


@pytest.mark.parametrize(
    ("attempts", "rejected"),
    [
        ([("192.0.2.1", f"user{n}") for n in range(20)], 18),
        ([(f"2001:db8::{n:x}", f"user{n}") for n in range(20)], 18),
        ([(f"192.0.2.{n}", f"user{n}") for n in range(20)], 10),
    ],
)
async def test_few_sign_ins_are_in_progress_at_once(
    api: Api, slow_hashes: SlowHashes, attempts: list[tuple[str, str]], rejected: int
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        tasks = []
        for address, username in attempts:
            client = await stack.enter_async_context(open_client_at(api, address))
            tasks.append(asyncio.create_task(sign_in(client, username, WRONG)))

        async def are_all_others_in_progress() -> bool:
            return sum(task.done() for task in tasks) == rejected and slow_hashes.begun == 2

        await eventually(are_all_others_in_progress)
        early = [task.result() for task in tasks if task.done()]
        slow_hashes.may_end.set()
        responses = await asyncio.gather(*tasks)
    assert sorted(response.status_code for response in responses) == sorted(
        [429] * rejected + [401] * (len(attempts) - rejected)
    )
    for response in early:
        assert assert_problem(response, 429)["type"] == "urn:carillon:problem:too_many_requests"
        assert response.headers["retry-after"] == "1"


async def test_guesses_do_not_keep_the_owner_of_the_account_from_signing_in(
    api: Api, slow_hashes: SlowHashes
) -> None:
    async with open_client_at(api, "192.0.2.1") as attacker, open_client_at(api, "::1") as owner:
        guesses = [asyncio.create_task(sign_in(attacker, "alice", WRONG)) for _ in range(20)]

        async def are_only_two_in_progress() -> bool:
            return sum(task.done() for task in guesses) == 18

        await eventually(are_only_two_in_progress)
        slow_hashes.may_end.set()
        assert (await sign_in(owner, "alice", PASSWORD)).status_code == 401  # no hash is right here
        await asyncio.gather(*guesses)


async def test_a_sign_in_that_has_ended_does_not_count(
    api: Api, nobody: httpx2.AsyncClient
) -> None:
    for _ in range(5):
        assert_problem(await sign_in(nobody, "alice", WRONG), 401)
    assert (await sign_in(nobody, "alice", PASSWORD)).status_code == 200


async def test_a_failed_sign_in_is_logged_with_its_address_and_only_a_known_name(api: Api) -> None:
    async with open_client_at(api, "192.0.2.9") as client:
        with capture_logs() as logs:
            await sign_in(client, "ALICE", WRONG)
            await sign_in(client, PASSWORD, "alice")
    known, unknown = [log for log in logs if log["event"] == "sign_in_failed"]
    assert (known["address"], known["username"]) == ("192.0.2.9", "alice")
    assert unknown["address"] == "192.0.2.9"
    assert "username" not in unknown
    assert PASSWORD not in str(logs)
    assert WRONG not in str(logs)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x.y.z", "Basic YWxpY2U6eA==", "Bearer \xff"]
)
async def test_a_wrong_token_is_a_401(nobody: httpx2.AsyncClient, header: str) -> None:
    response = await nobody.get("/jobs", headers=[(b"Authorization", header.encode("latin-1"))])
    assert_problem(response, 401)


async def test_a_damaged_token_or_one_of_another_key_is_a_401(
    api: Api, nobody: httpx2.AsyncClient
) -> None:
    valid = api.issue_token("alice")
    for forged in (valid[:-4] + "AAAA", valid + "A", valid.replace(".", ""), "A" * 1_000_000):
        response = await nobody.get("/jobs", headers={"Authorization": f"Bearer {forged}"})
        assert "expired" not in assert_problem(response, 401)["detail"]
        assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    other = security.issue_token(
        TokenKey(SECRET[::-1], "HS256"),
        user_id=api.ids["admin"],
        token_id="t",
        now=api.clock.now(),
        lifetime=timedelta(hours=1),
    )
    response = await nobody.get("/jobs", headers={"Authorization": f"Bearer {other}"})
    assert_problem(response, 401)


async def empty_users(api: Api) -> Any:
    users = api.database.collection("users")
    await users.delete_many({})
    return users


async def test_one_of_five_simultaneous_starts_adds_the_first_admin(
    api: Api, nobody: httpx2.AsyncClient
) -> None:
    users = await empty_users(api)
    auth = api.runtime.auth
    found = await asyncio.gather(*(auth.ensure_first_admin("admin", None) for _ in range(5)))
    [credentials] = [one for one in found if one is not None]
    assert await users.count_documents({}) == 1
    response = await sign_in(nobody, credentials.username, credentials.password)
    assert response.status_code == 200
    assert credentials.username == "admin"
    assert credentials.password in credentials.announcement()
    assert await auth.ensure_first_admin("admin", None) is None


async def test_a_chosen_password_of_the_first_admin_is_not_shown(
    api: Api, nobody: httpx2.AsyncClient
) -> None:
    await empty_users(api)
    assert await api.runtime.auth.ensure_first_admin("Root", PASSWORD) is None
    assert (await sign_in(nobody, "root", PASSWORD)).status_code == 200


@pytest.mark.parametrize(
    ("username", "password", "variable"),
    [
        ("a b", PASSWORD, "ADMIN_USERNAME"),
        ("root", "short", "ADMIN_PASSWORD"),
        ("root", "x" * 129, "ADMIN_PASSWORD"),
    ],
)
async def test_an_invalid_first_admin_stops_the_start(
    api: Api, username: str, password: str, variable: str
) -> None:
    users = await empty_users(api)
    with pytest.raises(ConfigurationError, match=f"cannot be added: {variable}: a "):
        await api.runtime.auth.ensure_first_admin(username, password)
    assert await users.count_documents({}) == 0


async def test_a_new_user_can_sign_in(api: Api, nobody: httpx2.AsyncClient) -> None:
    auth = api.runtime.auth
    user = await auth.add_user("Dave@example.com", PASSWORD, Role.VIEWER)
    assert user.username == "dave@example.com"
    assert (await sign_in(nobody, "dave@example.com", PASSWORD)).status_code == 200
    with pytest.raises(ConflictError):
        await auth.add_user("DAVE@example.com", PASSWORD, Role.VIEWER)
    for username, password in [
        ("", PASSWORD),
        ("é", PASSWORD),
        ("eve", "short"),
        ("eve", "\0" * 12),
    ]:
        with pytest.raises(InvalidInputError):
            await auth.add_user(username, password, Role.EDITOR)
