"""Reads come from Redis, a caller reads its own writes, and the API works without Redis."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.errors import UnavailableError
from app.models.job import Job
from app.repositories.jobs import JobRepository
from tests.support.api import Api, create_job, list_names, open_api
from tests.support.servers import UNREACHABLE_REDIS


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reads that reached the database."""
    reached: list[str] = []
    get, list_jobs = JobRepository.get, JobRepository.list_jobs

    async def record_get(self: JobRepository, *args: Any, **options: Any) -> Any:
        reached.append("get")
        return await get(self, *args, **options)

    async def record_list(self: JobRepository, *args: Any, **options: Any) -> Any:
        reached.append("list")
        return await list_jobs(self, *args, **options)

    monkeypatch.setattr(JobRepository, "get", record_get)
    monkeypatch.setattr(JobRepository, "list_jobs", record_list)
    return reached


async def test_a_second_read_does_not_query_the_database(
    alice: httpx2.AsyncClient, reads: list[str]
) -> None:
    job = await create_job(alice)
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
    job = await create_job(alice, name="one")
    path = f"/jobs/{job['id']}"
    assert await list_names(alice) == await list_names(admin) == ["one"]
    await alice.patch(path, json={"name": "two"})
    assert await list_names(alice) == await list_names(admin) == ["two"]
    assert (await alice.get(path)).json()["name"] == "two"
    await admin.patch(path, json={"name": "three"})
    assert await list_names(alice) == await list_names(admin) == ["three"]
    await alice.post(f"{path}/deactivate")
    assert (await alice.get(path)).json()["active"] is False
    await alice.delete(path)
    assert await list_names(alice) == await list_names(admin) == []
    assert (await alice.get(path)).status_code == 404


async def test_every_kind_of_write_shows_immediately_in_another_process(
    api: Api, alice: httpx2.AsyncClient, mongo_uri: str, database_name: str, redis_url: str
) -> None:
    async with open_api(mongo_uri, database_name, redis_url, users=False) as other:
        other.ids = api.ids
        async with other.open_client("alice") as elsewhere, api.open_client("admin") as admin:
            path = f"/jobs/{(await create_job(alice, name='one'))['id']}"

            async def list_seen_jobs() -> list[list[tuple[str, bool]]]:
                """Return the name and `active` of each job that each client reads."""
                return [
                    [(j["name"], j["active"]) for j in (await c.get("/jobs")).json()["items"]]
                    for c in (alice, elsewhere, admin)
                ]

            assert await list_seen_jobs() == [[("one", True)]] * 3
            assert (await alice.get(path)).json()["name"] == "one"
            await elsewhere.patch(path, json={"name": "two"})
            assert await list_seen_jobs() == [[("two", True)]] * 3
            assert (await alice.get(path)).json()["name"] == "two"
            await alice.post(f"{path}/deactivate")
            assert await list_seen_jobs() == [[("two", False)]] * 3
            assert (await elsewhere.get(path)).json()["active"] is False
            await elsewhere.delete(path)
            assert await list_seen_jobs() == [[]] * 3
            assert (await alice.get(path)).status_code == 404


async def test_a_write_with_an_unknown_result_drops_cached_responses(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await create_job(alice, name="one")
    path = f"/jobs/{job['id']}"
    await alice.get(path)
    replace = api.jobs.replace

    async def lose_the_response(changed: Job, *, expected: Job) -> bool:
        await replace(changed, expected=expected)
        raise UnavailableError("The database does not respond.")

    monkeypatch.setattr(api.jobs, "replace", lose_the_response)
    assert (await alice.patch(path, json={"name": "two"})).status_code == 503
    assert (await alice.get(path)).json()["name"] == "two"


async def test_a_deletion_with_an_unknown_result_drops_cached_responses(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/jobs/{(await create_job(alice, name='one'))['id']}"
    assert (await alice.get(path)).status_code == 200
    assert await list_names(alice) == ["one"]
    delete = api.jobs.delete

    async def lose_the_response(job: Job) -> bool:
        await delete(job)
        raise UnavailableError("The database does not respond.")

    monkeypatch.setattr(api.jobs, "delete", lose_the_response)
    assert (await alice.delete(path)).status_code == 503
    assert (await alice.get(path)).status_code == 404
    assert await list_names(alice) == []


async def test_a_cached_response_is_never_sent_to_another_user(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, name="mine")
    assert (await alice.get(f"/jobs/{job['id']}")).status_code == 200
    assert (await bob.get(f"/jobs/{job['id']}")).status_code == 404
    assert len((await alice.get("/jobs")).json()["items"]) == 1
    assert (await bob.get("/jobs")).json()["items"] == []


async def test_without_redis_jobs_are_created_edited_and_read(
    mongo_uri: str, database_name: str
) -> None:
    async with (
        open_api(mongo_uri, database_name, UNREACHABLE_REDIS) as api,
        api.open_client("alice") as alice,
    ):
        job = await create_job(alice, name="one")
        path = f"/jobs/{job['id']}"
        assert (await alice.get(path)).json()["name"] == "one"
        await alice.patch(path, json={"name": "two"})
        assert (await alice.get(path)).json()["name"] == "two"
        api.clock.advance(timedelta(seconds=61))
        assert await list_names(alice) == ["two"]
