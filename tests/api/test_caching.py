"""Reads come from Redis, a caller reads its own writes, and the API works without Redis."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.errors import UnavailableError
from app.models.job import Job
from app.repositories.jobs import JobRepository
from tests.support.api import Api, open_api


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reads that reached the database."""
    reached: list[str] = []
    get, list_jobs = JobRepository.get, JobRepository.list_jobs

    async def noted_get(self: JobRepository, *args: Any, **options: Any) -> Any:
        reached.append("get")
        return await get(self, *args, **options)

    async def noted_list(self: JobRepository, *args: Any, **options: Any) -> Any:
        reached.append("list")
        return await list_jobs(self, *args, **options)

    monkeypatch.setattr(JobRepository, "get", noted_get)
    monkeypatch.setattr(JobRepository, "list_jobs", noted_list)
    return reached


async def test_a_second_read_does_not_query_the_database(
    alice: httpx2.AsyncClient, reads: list[str]
) -> None:
    job = (await alice.post("/jobs", json={"name": "a job"})).json()
    for path in ("/jobs", f"/jobs/{job['id']}"):
        first, second = await alice.get(path), await alice.get(path)
        assert first.content == second.content
    assert reads == ["list", "get"]


async def test_each_page_and_filter_has_its_own_cache_entry(
    alice: httpx2.AsyncClient, reads: list[str]
) -> None:
    for query in ({}, {"limit": 1}, {"active": True}, {"tag": "x"}):
        await alice.get("/jobs", params=query)
    assert len(reads) == 4


async def test_a_caller_reads_its_own_writes(
    alice: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    async def names(client: httpx2.AsyncClient) -> list[str]:
        return [job["name"] for job in (await client.get("/jobs")).json()["items"]]

    job = (await alice.post("/jobs", json={"name": "one"})).json()
    path = f"/jobs/{job['id']}"
    assert await names(alice) == await names(admin) == ["one"]
    await alice.patch(path, json={"name": "two"})
    assert await names(alice) == await names(admin) == ["two"]
    assert (await alice.get(path)).json()["name"] == "two"
    await admin.patch(path, json={"name": "three"})
    assert await names(alice) == await names(admin) == ["three"]
    await alice.post(f"{path}/deactivate")
    assert (await alice.get(path)).json()["active"] is False
    await alice.delete(path)
    assert await names(alice) == await names(admin) == []
    assert (await alice.get(path)).status_code == 404


async def test_a_write_in_another_process_shows_immediately(
    api: Api, alice: httpx2.AsyncClient, mongo_uri: str, database_name: str, redis_url: str
) -> None:
    job = (await alice.post("/jobs", json={"name": "one"})).json()
    path = f"/jobs/{job['id']}"
    assert (await alice.get(path)).json()["name"] == "one"
    await api.database.collection("users").delete_many({"username": {"$ne": "alice"}})
    await api.database.collection("users").update_one(
        {"_id": api.ids["alice"]}, {"$set": {"username": "alice2"}}
    )
    async with open_api(mongo_uri, database_name, redis_url) as other:
        other.ids["alice2"] = api.ids["alice"]
        async with other.client("alice2") as elsewhere:
            await elsewhere.patch(path, json={"name": "two"})
    assert (await alice.get(path)).json()["name"] == "two"


async def test_a_write_with_an_unknown_result_drops_cached_responses(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (await alice.post("/jobs", json={"name": "one"})).json()
    path = f"/jobs/{job['id']}"
    await alice.get(path)
    replace = api.jobs.replace

    async def lose_the_response(changed: Job, *, expected: Job) -> bool:
        await replace(changed, expected=expected)
        raise UnavailableError("The database does not response.")

    monkeypatch.setattr(api.jobs, "replace", lose_the_response)
    assert (await alice.patch(path, json={"name": "two"})).status_code == 503
    assert (await alice.get(path)).json()["name"] == "two"


async def test_a_cached_response_is_never_sent_to_another_user(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    job = (await alice.post("/jobs", json={"name": "mine"})).json()
    assert (await alice.get(f"/jobs/{job['id']}")).status_code == 200
    assert (await bob.get(f"/jobs/{job['id']}")).status_code == 404
    assert len((await alice.get("/jobs")).json()["items"]) == 1
    assert (await bob.get("/jobs")).json()["items"] == []


async def test_without_redis_every_route_works(mongo_uri: str, database_name: str) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    async with open_api(mongo_uri, database_name, nowhere) as api, api.client("alice") as alice:
        job = (await alice.post("/jobs", json={"name": "one"})).json()
        path = f"/jobs/{job['id']}"
        assert (await alice.get(path)).json()["name"] == "one"
        await alice.patch(path, json={"name": "two"})
        assert (await alice.get(path)).json()["name"] == "two"
        api.clock.advance(timedelta(seconds=61))
        assert [j["name"] for j in (await alice.get("/jobs")).json()["items"]] == ["two"]
