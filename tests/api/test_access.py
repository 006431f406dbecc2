"""Access rights: resources of other users do not exist for a user."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tests.support.api import UNKNOWN_ID, Api, JsonBody, assert_problem
from tests.support.clock import START

NOT_IDS = ["1", "x" * 32, "0" * 32, "A" * 32, "0" * 5_000, "%00", "..", "%F0%9F%92%A3", "$where"]

PAST_RANGE = {"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z"}

ROUTES: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/jobs/{job}", {}),
    ("PUT", "/jobs/{job}", {"json": {"name": "stolen"}}),
    ("PATCH", "/jobs/{job}", {"json": {"name": "stolen"}}),
    ("DELETE", "/jobs/{job}", {}),
    ("POST", "/jobs/{job}/activate", {}),
    ("POST", "/jobs/{job}/deactivate", {}),
    ("POST", "/jobs/{job}/execute", {}),
    ("GET", "/jobs/{job}/executions", {}),
    ("POST", "/jobs/{job}/backfill", {"json": PAST_RANGE}),
    ("GET", "/jobs/{job}/next-runs", {}),
    ("GET", "/jobs/{job}/why", {"params": {"at": "2026-11-23T08:00:00Z"}}),
    ("GET", "/jobs/{job}/schedules", {}),
    ("POST", "/jobs/{job}/schedules", {"json": {"type": "interval", "interval_seconds": 60}}),
    ("GET", "/schedules/{schedule}", {}),
    ("PUT", "/schedules/{schedule}", {"json": {"active": False}}),
    ("PATCH", "/schedules/{schedule}", {"json": {"active": False}}),
    ("DELETE", "/schedules/{schedule}", {}),
    ("GET", "/executions/{execution}", {}),
    ("POST", "/executions/{execution}/cancel", {}),
    ("POST", "/executions/{execution}/retry", {}),
]
"""Every route that takes an id."""


@pytest.fixture
async def ids_of_alice(alice: httpx2.AsyncClient) -> dict[str, str]:
    """The ids of a job, an execution and a schedule of alice."""
    job = (await alice.post("/jobs", json={"name": "mine", "interval": 3600})).json()
    execution = (await alice.post(f"/jobs/{job['id']}/execute")).json()
    schedule = job["schedules"][0]["id"]
    return {"job": job["id"], "execution": execution["id"], "schedule": schedule}


def test_the_table_has_every_route_with_an_id(api: Api) -> None:
    document = api.app.openapi()
    paths = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if "{" in path
    }
    table = {
        (method, path.format(job="{job_id}", execution="{execution_id}", schedule="{schedule_id}"))
        for method, path, _ in ROUTES
    }
    assert paths == table


async def test_the_id_of_another_users_resource_is_a_404_on_every_route(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, ids_of_alice: dict[str, str]
) -> None:
    before = (await alice.get(f"/jobs/{ids_of_alice['job']}")).json()
    for method, path, options in ROUTES:
        assert_problem(await bob.request(method, path.format(**ids_of_alice), **options), 404)
    assert (await alice.get(f"/jobs/{ids_of_alice['job']}")).json() == before


async def test_a_text_that_is_no_id_is_a_404_on_every_route(alice: httpx2.AsyncClient) -> None:
    for method, path, options in ROUTES:
        for text in NOT_IDS:
            if text == "..":
                continue  # HTTP clients resolve it
            target = path.format(job=text, execution=text, schedule=text)
            assert_problem(await alice.request(method, target, **options), 404)


async def test_an_admin_may_use_every_route_on_another_users_job(
    admin: httpx2.AsyncClient, ids_of_alice: dict[str, str]
) -> None:
    job_last = sorted(ROUTES, key=lambda r: (r[0] == "DELETE", r[1] == "/jobs/{job}"))
    for method, path, options in job_last:
        assert (await admin.request(method, path.format(**ids_of_alice), **options)).is_success


async def test_without_a_token_every_route_is_a_401(
    nobody: httpx2.AsyncClient, ids_of_alice: dict[str, str]
) -> None:
    others: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/jobs", {}),
        ("POST", "/jobs", {"json": {"name": "x"}}),
    ]
    for method, path, options in [*ROUTES, *others]:
        response = await nobody.request(method, path.format(**ids_of_alice), **options)
        assert_problem(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"


async def test_a_viewer_may_read_but_not_change(
    viewer: httpx2.AsyncClient, ids_of_alice: dict[str, str]
) -> None:
    assert (await viewer.get("/jobs")).json()["items"] == []
    assert_problem(await viewer.post("/jobs", json={"name": "x"}), 403)
    unknown_ids = dict.fromkeys(ids_of_alice, UNKNOWN_ID)
    for method, path, options in ROUTES:
        if method != "GET":
            for ids in (ids_of_alice, unknown_ids):
                response = await viewer.request(method, path.format(**ids), **options)
                assert_problem(response, 403)


async def test_a_viewer_may_preview(viewer: httpx2.AsyncClient) -> None:
    schedule = {"type": "interval", "interval_seconds": 60}
    response = await viewer.post(
        "/schedules/preview", json=schedule, headers={"Idempotency-Key": "a"}
    )
    assert response.status_code == 200
    assert response.json()["next_runs"]


@pytest.mark.parametrize(
    "changes",
    [{"active": False}, {"tokens_valid_from": START + timedelta(seconds=1)}],
    ids=["disabled", "tokens ended"],
)
async def test_a_token_is_rejected_as_soon_as_its_user_is_disabled_or_its_tokens_are_ended(
    api: Api, alice: httpx2.AsyncClient, changes: JsonBody
) -> None:
    assert (await alice.get("/jobs")).status_code == 200
    users = api.database.collection("users")
    await users.update_one({"_id": api.ids["alice"]}, {"$set": changes})
    assert_problem(await alice.get("/jobs"), 401)


async def test_a_deleted_user_is_rejected_immediately(api: Api, alice: httpx2.AsyncClient) -> None:
    assert (await alice.get("/jobs")).status_code == 200
    await api.database.collection("users").delete_one({"_id": api.ids["alice"]})
    assert_problem(await alice.get("/jobs"), 401)


async def test_a_change_of_role_takes_effect_immediately(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    users = api.database.collection("users")
    await users.update_one({"_id": api.ids["alice"]}, {"$set": {"role": "viewer"}})
    assert_problem(await alice.post("/jobs", json={"name": "x"}), 403)
