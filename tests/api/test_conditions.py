"""Entity tags and the conditions on them: If-None-Match and If-Match."""

import asyncio
import re
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tests.support.api import Api, JsonBody, assert_names, assert_problem

HOURLY = {"type": "interval", "interval_seconds": 3600}
EVERY_SECOND = {"type": "interval", "interval_seconds": 1}
WRITES: list[tuple[str, str, JsonBody | None]] = [
    ("PUT", "", {"name": "other"}),
    ("PATCH", "", {"name": "other"}),
    ("POST", "/deactivate", None),
    ("POST", "/activate", None),
    ("DELETE", "", None),
]


@pytest.fixture
async def created(alice: httpx2.AsyncClient) -> httpx2.Response:
    return await alice.post("/jobs", json={"name": "a job", "schedules": [EVERY_SECOND]})


def path_of(created: httpx2.Response) -> str:
    return f"/jobs/{created.json()['id']}"


async def test_every_response_with_a_job_has_its_etag(
    alice: httpx2.AsyncClient, created: httpx2.Response
) -> None:
    path = path_of(created)
    responses = [created, await alice.get(path), await alice.get(path)]
    assert len({response.headers["etag"] for response in responses}) == 1
    assert re.fullmatch(r'"1-[0-9a-f]{16}"', created.headers["etag"])
    for method, rest, body in WRITES[:3]:
        response = await alice.request(method, path + rest, json=body)
        assert response.headers["etag"].startswith(f'"{response.json()["revision"]}-')
        assert (await alice.get(path)).headers["etag"] == response.headers["etag"]


async def test_a_response_that_the_client_has_is_a_304(
    alice: httpx2.AsyncClient, created: httpx2.Response
) -> None:
    for path in (path_of(created), "/jobs", "/jobs?limit=1"):
        etag = (await alice.get(path)).headers["etag"]
        for header in (etag, f"W/{etag}", f'"other", {etag}', f'W/"x",{etag}', "*"):
            response = await alice.get(path, headers={"If-None-Match": header})
            assert response.status_code == 304, header
            assert response.content == b""
            assert response.headers["etag"] == etag
            assert "content-type" not in response.headers
        for header in ('"other"', etag.strip('"'), "", "garbage", f"{etag} {etag}"):
            response = await alice.get(path, headers={"If-None-Match": header})
            assert response.status_code == 200, header


async def test_a_changed_job_is_not_a_304(
    alice: httpx2.AsyncClient, created: httpx2.Response
) -> None:
    path = path_of(created)
    etags = {read: (await alice.get(read)).headers["etag"] for read in (path, "/jobs")}
    await alice.patch(path, json={"name": "other"})
    for read, etag in etags.items():
        assert (await alice.get(read, headers={"If-None-Match": etag})).status_code == 200


async def test_a_condition_on_another_users_job_is_a_404(
    bob: httpx2.AsyncClient, created: httpx2.Response
) -> None:
    headers = {"If-None-Match": created.headers["etag"], "If-Match": created.headers["etag"]}
    assert_problem(await bob.get(path_of(created), headers=headers), 404)
    assert_problem(await bob.patch(path_of(created), json={}, headers=headers), 404)


@pytest.mark.parametrize(("method", "rest", "body"), WRITES)
async def test_a_write_with_another_revision_is_a_412_and_changes_nothing(
    api: Api,
    alice: httpx2.AsyncClient,
    created: httpx2.Response,
    method: str,
    rest: str,
    body: JsonBody | None,
) -> None:
    path = path_of(created)
    etag = (await alice.patch(path, json={"description": "newer"})).headers["etag"]
    before = await api.read_job(created.json())
    first = created.headers["etag"]
    for header in (first, '"x"', '""', f"W/{etag}", f'{first}, "7-0", "2"', '"02-0"'):
        headers = {"If-Match": header}
        response = await alice.request(method, path + rest, json=body, headers=headers)
        assert_problem(response, 412)
    assert await api.read_job(created.json()) == before
    for header in ("2", "garbage", etag.strip('"'), f"{etag} {etag}", f'{etag}, "', ""):
        headers = {"If-Match": header}
        response = await alice.request(method, path + rest, json=body, headers=headers)
        assert_names(response, "/header/If-Match")
    assert await api.read_job(created.json()) == before


@pytest.mark.parametrize(
    "header", ["{}", "*", '"1-0000", {}', ' ,{} , "x"', '"2-0123456789abcdef"']
)
async def test_a_write_with_the_current_revision_takes_effect(
    alice: httpx2.AsyncClient, created: httpx2.Response, header: str
) -> None:
    path = path_of(created)
    etag = (await alice.patch(path, json={"description": "newer"})).headers["etag"]
    headers = {"If-Match": header.format(etag)}
    response = await alice.put(path, json={"name": "other"}, headers=headers)
    assert response.status_code == 200
    assert response.json()["revision"] == 3


async def test_an_edit_with_if_match_succeeds_after_a_firing(
    api: Api, alice: httpx2.AsyncClient, created: httpx2.Response
) -> None:
    api.clock.advance(timedelta(seconds=5))
    await api.fire_due()
    next_run = (await api.read_job(created.json())).next_run
    assert next_run is not None
    assert next_run > api.clock.now()
    headers = {"If-Match": created.headers["etag"]}
    response = await alice.patch(path_of(created), json={"interval": 60}, headers=headers)
    assert response.status_code == 200


async def test_one_of_several_simultaneous_edits_of_a_revision_wins(
    alice: httpx2.AsyncClient, created: httpx2.Response
) -> None:
    headers = {"If-Match": created.headers["etag"]}
    responses = await asyncio.gather(
        *(
            alice.patch(path_of(created), json={"description": str(i)}, headers=headers)
            for i in range(8)
        )
    )
    assert sorted(response.status_code for response in responses) == [200] + [412] * 7


async def test_the_revision_is_checked_again_after_a_lost_race(
    api: Api, alice: httpx2.AsyncClient, created: httpx2.Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = api.jobs.replace

    async def lose_to_a_rival(changed: Any, *, expected: Any) -> bool:
        monkeypatch.undo()
        rival = expected.model_copy(update={"description": "rival", "revision": 2})
        assert await replace(rival, expected=expected)
        return await replace(changed, expected=expected)

    monkeypatch.setattr(api.jobs, "replace", lose_to_a_rival)
    headers = {"If-Match": created.headers["etag"]}
    assert_problem(await alice.patch(path_of(created), json={"name": "x"}, headers=headers), 412)
    assert (await api.read_job(created.json())).description == "rival"


async def test_a_schedule_has_the_revision_of_its_job(
    alice: httpx2.AsyncClient, created: httpx2.Response
) -> None:
    path = f"{path_of(created)}/schedules"
    added = await alice.post(path, json=HOURLY, headers={"If-Match": created.headers["etag"]})
    schedule_path = added.headers["location"]
    etag = added.headers["etag"]
    assert etag.startswith('"2-')
    assert (await alice.get(schedule_path)).headers["etag"] == etag
    assert (await alice.get(schedule_path, headers={"If-None-Match": etag})).status_code == 304
    listed = (await alice.get(path)).headers["etag"]
    assert listed.startswith('"2-')
    assert (await alice.get(path, headers={"If-None-Match": listed})).status_code == 304

    await alice.patch(path_of(created), json={"description": "newer"})
    before = (await alice.get(path_of(created))).json()
    for method, target, body in (
        ("POST", path, HOURLY),
        ("PUT", schedule_path, {"active": False}),
        ("PATCH", schedule_path, {"active": False}),
        ("DELETE", schedule_path, None),
    ):
        for header in (etag, f"W/{etag}", '"x"'):
            response = await alice.request(method, target, json=body, headers={"If-Match": header})
            assert_problem(response, 412)
        response = await alice.request(method, target, json=body, headers={"If-Match": "garbage"})
        assert_names(response, "/header/If-Match")
    assert (await alice.get(path_of(created))).json() == before

    current_etag = (await alice.get(schedule_path)).headers["etag"]
    edited = await alice.patch(
        schedule_path, json={"active": False}, headers={"If-Match": current_etag}
    )
    assert edited.headers["etag"].startswith('"4-')
    headers = {"If-Match": edited.headers["etag"]}
    assert (await alice.delete(schedule_path, headers=headers)).status_code == 204
