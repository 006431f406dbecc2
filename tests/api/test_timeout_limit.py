"""The limit of the service on timeouts (`MAX_TIMEOUT_SECONDS`, by default 3600)."""

import httpx2
import pytest

from tests.support.api import Api, JsonBody, assert_problem, create_job


async def test_a_job_with_a_timeout_above_the_limit_is_rejected(alice: httpx2.AsyncClient) -> None:
    response = await alice.post("/jobs", json={"name": "a", "timeout_seconds": 3_600.1})

    problem = assert_problem(response, 422)
    [error] = problem["errors"]
    assert error["pointer"] == "/timeout_seconds"
    assert "at most 3600 seconds" in error["detail"]
    assert "MAX_TIMEOUT_SECONDS" in error["detail"]


async def test_a_timeout_at_the_limit_is_accepted(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, timeout_seconds=3_600)
    assert (job["timeout_seconds"], job["effective_timeout_seconds"]) == (3_600, 3_600)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_job_that_was_saved_with_a_longer_timeout_can_be_edited_and_shows_the_limit(
    api: Api, alice: httpx2.AsyncClient, method: str
) -> None:
    job = await create_job(alice)
    path = f"/jobs/{job['id']}"
    await store_timeout(api, job, 86_400)
    for body in ({"description": "new"}, {"timeout_seconds": 86_400}):
        changed = (await alice.request(method, path, json=body)).json()
        assert (changed["timeout_seconds"], changed["effective_timeout_seconds"]) == (86_400, 3_600)
    read = (await alice.get(path)).json()
    [listed] = (await alice.get("/jobs")).json()["items"]
    assert read == changed
    assert listed["effective_timeout_seconds"] == 3_600

    assert_problem(await alice.request(method, path, json={"timeout_seconds": 86_399}), 422)
    shorter = (await alice.request(method, path, json={"timeout_seconds": 60})).json()
    assert (shorter["timeout_seconds"], shorter["effective_timeout_seconds"]) == (60, 60)


async def store_timeout(api: Api, job: JsonBody, seconds: float) -> None:
    """Store what an earlier release accepted."""
    await api.database.collection("jobs").update_one(
        {"_id": job["id"]}, {"$set": {"timeout_seconds": seconds}}
    )
