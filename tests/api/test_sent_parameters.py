"""An execution shows the parameters that it has sent, whatever becomes of its job afterwards."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from app.errors import UnavailableError
from app.models.job import Job
from app.models.job_revision import RevisionKey
from app.models.page import PAGE_BYTES
from app.repositories.job_revisions import JobRevisionRepository
from app.repositories.jobs import JobRepository
from tests.support.api import Api, JsonBody, assert_problem, create_job

FIRST = {"n": 1, "f": 1.0, "$ref": "a", "$id": {"$literal": "$parameters"}, "": ["ü", None]}


async def execute(
    api: Api, client: httpx2.AsyncClient, job: JsonBody, *revisions: int, **body: Any
) -> str:
    """Execute the job, with an attempt of each of these revisions. Return the execution's id."""
    api.clock.advance(timedelta(seconds=1))
    queued = (await client.post(f"/jobs/{job['id']}/execute", json=body)).json()
    tries = [
        {"number": n, "job_revision": revision, "started_at": api.clock.now()}
        for n, revision in enumerate(revisions, start=1)
    ]
    changes = {"attempts": tries, "status": "failed", "finished_at": api.clock.now()}
    if tries:
        stored = api.database.collection("executions")
        await stored.update_one({"_id": queued["id"]}, {"$set": changes})
    execution_id: str = queued["id"]
    return execution_id


async def edit(client: httpx2.AsyncClient, job: JsonBody, **body: Any) -> None:
    response = await client.patch(f"/jobs/{job['id']}", json=body)
    assert response.status_code == 200, response.text


async def read_parameters(client: httpx2.AsyncClient, execution_id: str) -> Any:
    return (await client.get(f"/executions/{execution_id}")).json()["parameters"]


async def test_an_execution_keeps_showing_what_it_has_sent(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, parameters=FIRST)
    first = await execute(api, alice, job, 1)
    assert await read_parameters(alice, first) == FIRST
    await edit(alice, job, parameters={"n": 2})
    second = await execute(api, alice, job, 2)
    await alice.post(f"/jobs/{job['id']}/deactivate")
    third = await execute(api, alice, job, 3)
    for _ in range(2):
        shown = await alice.get(f"/executions/{first}")
        assert shown.json()["parameters"] == FIRST
        assert list(shown.json()["parameters"]) == list(FIRST)
        assert '"f":1.0,' in shown.text
        assert await read_parameters(alice, second) == {"n": 2}
        assert await read_parameters(alice, third) == {"n": 2}
        await alice.delete(f"/jobs/{job['id']}")


async def test_an_edit_of_a_schedule_keeps_what_was_sent(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, interval=60, parameters={"n": 1})
    sent = await execute(api, alice, job, 1)
    schedule_id = job["schedules"][0]["id"]
    await alice.patch(f"/schedules/{schedule_id}", json={"interval_seconds": 30})
    await edit(alice, job, parameters={"n": 2})
    assert await read_parameters(alice, sent) == {"n": 1}


async def test_the_newest_attempt_says_which_parameters_are_shown(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    await edit(alice, job, parameters={"n": 2})
    await edit(alice, job, parameters={"n": 3})
    assert await read_parameters(alice, await execute(api, alice, job, 1, 2)) == {"n": 2}


async def test_an_execution_without_an_attempt_has_sent_nothing(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    assert await read_parameters(alice, await execute(api, alice, job)) is None
    assert await read_parameters(alice, await execute(api, alice, job, parameters={})) == {}


async def test_parameters_of_the_request_are_shown_instead_of_those_of_the_job(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    sent = await execute(api, alice, job, 1, parameters={"o": 1})
    assert await read_parameters(alice, sent) == {"o": 1}


async def test_a_retry_sends_the_present_parameters_of_the_job(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    sent = await execute(api, alice, job, 1)
    retried = (await alice.post(f"/executions/{sent}/retry")).json()
    assert retried["parameters"] is None
    stored = await api.executions.get(retried["id"], owner_id=None)
    assert stored.parameters is None


async def test_each_answer_that_is_an_execution_shows_what_was_sent(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    sent = await execute(api, alice, job, 1)
    await edit(alice, job, parameters={"n": 2})
    stored = api.database.collection("executions")
    unfinished = {"$set": {"status": "queued"}, "$unset": {"finished_at": True}}
    await stored.update_one({"_id": sent}, unfinished)
    for _ in range(2):  # it is queued, then cancelled
        cancelled = (await alice.post(f"/executions/{sent}/cancel")).json()
        assert (cancelled["status"], cancelled["parameters"]) == ("cancelled", {"n": 1})


@pytest.mark.parametrize("path", ["/executions", "/jobs/{id}/executions"])
async def test_full_listings_show_what_was_sent_by_one_query(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    await execute(api, alice, job)
    for n in (2, 3):
        await execute(api, alice, job, n - 1)
        await execute(api, alice, job, n - 1)
        await edit(alice, job, parameters={"n": n})
    await execute(api, alice, job, 3)
    queries: list[Any] = []
    find_parameters = JobRevisionRepository.find_parameters

    async def count(self: JobRevisionRepository, keys: Any) -> Any:
        queries.append(keys)
        return await find_parameters(self, keys)

    monkeypatch.setattr(JobRevisionRepository, "find_parameters", count)
    path = path.format(id=job["id"])
    partial = (await alice.get(path)).json()["items"]
    assert queries == []
    assert not any("parameters" in item for item in partial)
    items = (await alice.get(path, params={"fields": "full"})).json()["items"]
    shown = [item["parameters"] for item in items][::-1]
    assert shown == [None, {"n": 1}, {"n": 1}, {"n": 2}, {"n": 2}, {"n": 3}]
    assert [len(keys) for keys in queries] == [3]


async def test_a_full_page_is_cut_where_the_parameters_do_not_fit(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, parameters={"n": 1, "x": "x" * 60_000})
    for n in range(1, 81):
        await execute(api, alice, job, n)
        await edit(alice, job, parameters={"n": n + 1, "x": "x" * 60_000})
    keys = [RevisionKey(job["id"], n) for n in range(1, 81)]
    found = await api.runtime.repositories.job_revisions.find_parameters(keys)
    assert list(found) == keys[:66]  # 4 MB, before the database sends them
    shown: list[int] = []
    cursor: str | None = None
    for _ in range(3):
        query: JsonBody = {"fields": "full", "limit": 200} | ({"cursor": cursor} if cursor else {})
        response = await alice.get("/executions", params=query)
        assert len(response.content) < PAGE_BYTES + 1_000
        shown += [item["parameters"]["n"] for item in response.json()["items"]]
        cursor = response.json()["next_cursor"]
        if cursor is None:
            break
    assert shown == list(range(80, 0, -1))


async def test_edits_that_lose_a_race_do_not_change_what_is_shown(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, parameters={"n": 0})
    bodies = [{"parameters": {"n": n}} for n in range(1, 6)]
    responses = await asyncio.gather(
        *(alice.patch(f"/jobs/{job['id']}", json=body) for body in bodies)
    )
    edited = {r.json()["revision"]: r.json()["parameters"] for r in responses}
    assert set(edited) == {2, 3, 4, 5, 6}
    for revision, parameters in {1: {"n": 0}, **edited}.items():
        assert await read_parameters(alice, await execute(api, alice, job, revision)) == parameters


async def test_an_edit_that_fails_after_its_record_changes_nothing(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    sent = await execute(api, alice, job, 1)

    async def fail(self: JobRepository, job: Job, *, expected: Job) -> bool:
        raise UnavailableError("The database does not respond.")

    with monkeypatch.context() as patch:
        patch.setattr(JobRepository, "replace", fail)
        response = await alice.patch(f"/jobs/{job['id']}", json={"parameters": {"n": 2}})
        assert_problem(response, 503)
    assert await read_parameters(alice, sent) == {"n": 1}
    await edit(alice, job, parameters={"n": 3})
    assert await read_parameters(alice, sent) == {"n": 1}
    assert await read_parameters(alice, await execute(api, alice, job, 2)) == {"n": 3}


async def test_an_edit_stores_what_it_replaces_before_it_changes_the_job(
    api: Api, alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    sent = await execute(api, alice, job, 1)
    replace = JobRepository.replace

    async def read_before(self: JobRepository, job: Job, *, expected: Job) -> bool:
        records = api.database.collection("job_revisions")
        assert await records.count_documents({"job_id": job.id, "revision": expected.revision}) == 1
        return await replace(self, job, expected=expected)

    monkeypatch.setattr(JobRepository, "replace", read_before)
    await edit(alice, job, parameters={"n": 2})
    assert await read_parameters(alice, sent) == {"n": 1}


async def test_parameters_that_an_earlier_release_replaced_are_not_known(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    sent = await execute(api, alice, job, 1)
    await edit(alice, job, parameters={"n": 2})
    await api.database.collection("job_revisions").delete_many({})
    assert await read_parameters(alice, sent) is None
    assert await read_parameters(alice, await execute(api, alice, job, 2)) == {"n": 2}


@pytest.mark.parametrize("malformed", ["{", "[]", 5, {"$ref": "a", "$id": 1}, None])
async def test_a_malformed_record_harms_only_its_revision(
    api: Api, alice: httpx2.AsyncClient, malformed: Any
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    for n in (1, 2, 3):
        await execute(api, alice, job, n)
        await edit(alice, job, parameters={"n": n + 1})
    records = api.database.collection("job_revisions")
    change: Any = {"$set": {"parameters": malformed, "bytes": float("inf"), "owner_id": 7}}
    await records.update_one({"revision": 2}, change)
    items = (await alice.get("/executions", params={"fields": "full"})).json()["items"]
    assert sorted(str(item["parameters"]) for item in items) == ["None", "{'n': 1}", "{'n': 3}"]
    await edit(alice, job, parameters={"n": 5})


async def test_a_malformed_job_does_not_hide_what_was_sent(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    job, other = await create_job(alice, parameters={"n": 1}), await create_job(alice)
    await execute(api, alice, job, 1)
    await execute(api, alice, other, 1)
    jobs = api.database.collection("jobs")
    await jobs.update_one({"_id": other["id"]}, {"$set": {"parameters": 5, "schedules": 7}})
    items = (await alice.get("/executions", params={"fields": "full"})).json()["items"]
    assert sorted(str(item["parameters"]) for item in items) == ["None", "{'n': 1}"]


async def test_others_do_not_see_what_was_sent(
    api: Api, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    job = await create_job(alice, parameters={"n": 1})
    sent = await execute(api, alice, job, 1)
    await edit(alice, job, parameters={"n": 2})
    assert_problem(await bob.get(f"/executions/{sent}"), 404)
    assert (await bob.get("/executions", params={"fields": "full"})).json()["items"] == []
    assert await read_parameters(admin, sent) == {"n": 1}


async def test_the_records_of_an_owner_that_are_too_many_make_room_for_new_ones(
    api: Api, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = await create_job(bob, parameters={"n": 1})
    sent_by_bob = await execute(api, bob, others, 1)
    await edit(bob, others, parameters={"n": 2})
    job = await create_job(alice, parameters={"n": 1, "x": "x" * 20_000})
    sent = []
    monkeypatch.setattr(api.runtime.jobs._revisions, "_most_bytes", 100_000)
    for n in range(1, 13):
        sent.append(await execute(api, alice, job, n))
        await edit(alice, job, parameters={"n": n + 1, "x": "x" * 20_000})
    records = api.database.collection("job_revisions")
    stored = await records.find({"owner_id": job["owner_id"]}).to_list(None)
    assert sorted(record["revision"] for record in stored) == [9, 10, 11, 12]
    shown = [await read_parameters(alice, one) for one in sent]
    assert [None if one is None else one["n"] for one in shown] == [None] * 8 + [9, 10, 11, 12]
    assert await read_parameters(bob, sent_by_bob) == {"n": 1}
