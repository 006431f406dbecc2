"""Listings of jobs: filters, search, orders and pages."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tests.support.api import (
    Api,
    JsonBody,
    assert_names,
    assert_problem,
    create_job,
    list_names,
)

NAMES = ["Beta", "alpha", "alpha two", "ALPHA", "Äther", "zeta", "(a+)+$", "%_\\", "beta", "100"]


@pytest.fixture
async def stored(alice: httpx2.AsyncClient, bob: httpx2.AsyncClient) -> list[JsonBody]:
    """Alice's jobs in the order of their creation. Bob has a job with the name of the first."""
    await bob.post("/jobs", json={"name": NAMES[0], "tags": ["even"]})
    jobs = []
    for i, name in enumerate(NAMES):
        body = {"name": name, "tags": ["even"] if i % 2 == 0 else ["odd"], "active": i % 3 > 0}
        jobs.append((await alice.post("/jobs", json=body)).json())
    return jobs


async def list_jobs(client: httpx2.AsyncClient, limit: int, **query: Any) -> list[JsonBody]:
    """Return every job as GET shows it, page by page."""
    found: list[JsonBody] = []
    cursor: JsonBody = {"fields": "full"}
    while True:
        response = await client.get("/jobs", params={"limit": limit, **query, **cursor})
        assert response.status_code == 200, response.text
        page = response.json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        assert len(page["items"]) == limit
        cursor["cursor"] = page["next_cursor"]


def make_name_key(job: JsonBody) -> tuple[str, str]:
    return job["name"].casefold(), job["id"]


async def test_the_listing_has_the_newest_first_in_keyset_pages(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    names = []
    for i in range(5):
        api.clock.advance(timedelta(milliseconds=1))
        names.append((await create_job(alice, name=f"job {i}"))["name"])
    seen, cursor = [], None
    sizes = []
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await alice.get("/jobs", params=query)).json()
        sizes.append(len(page["items"]))
        seen += [job["name"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == names[::-1]
    assert sizes == [2, 2, 1]


async def test_a_user_lists_own_jobs_and_an_admin_lists_all(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    await create_job(alice, name="of alice")
    await create_job(bob, name="of bob")

    assert await list_names(alice) == ["of alice"]
    assert await list_names(bob) == ["of bob"]
    assert sorted(await list_names(admin)) == ["of alice", "of bob"]


async def test_the_listing_can_be_filtered(alice: httpx2.AsyncClient) -> None:
    await create_job(alice, name="paused", active=False, tags=["x"])
    await create_job(alice, name="http", target={"type": "http", "url": "https://example.com/"})

    assert await list_names(alice, active=False) == ["paused"]
    assert await list_names(alice, tag="x") == ["paused"]
    assert await list_names(alice, target_type="http") == ["http"]
    assert await list_names(alice, status="failed") == []


@pytest.mark.parametrize("limit", [1, 3, 200])
@pytest.mark.parametrize(
    "filters", [{}, {"tag": "even"}, {"active": True}, {"active": False, "tag": "odd"}]
)
async def test_every_order_shows_each_job_once(
    alice: httpx2.AsyncClient, stored: list[JsonBody], limit: int, filters: JsonBody
) -> None:
    wanted = [
        job
        for job in stored
        if filters.get("tag", job["tags"][0]) in job["tags"]
        and filters.get("active", job["active"]) == job["active"]
    ]
    oldest = sorted(wanted, key=lambda job: job["id"])
    named = sorted(wanted, key=make_name_key)
    assert await list_jobs(alice, limit, **filters) == oldest[::-1]
    assert await list_jobs(alice, limit, sort="created_at", **filters) == oldest
    assert await list_jobs(alice, limit, sort="-created_at", **filters) == oldest[::-1]
    assert await list_jobs(alice, limit, sort="name", **filters) == named
    assert await list_jobs(alice, limit, sort="-name", **filters) == named[::-1]


@pytest.mark.parametrize(
    ("q", "names"),
    [
        ("alpha", ["ALPHA", "alpha", "alpha two"]),
        ("ALPHA ", ["alpha two"]),
        ("ä", ["Äther"]),
        ("A\u0308", ["Äther"]),
        ("(a+)+$", ["(a+)+$"]),
        ("%", ["%_\\"]),
        ("10", ["100"]),
        (".*", []),
        ("^a", []),
        ("(" * 64, []),
        ('{"$gt": ""}', []),
        ("lpha", []),
    ],
)
@pytest.mark.parametrize("sort", [None, "name", "-name", "created_at"])
async def test_a_search_finds_names_by_their_start_and_treats_patterns_as_text(
    alice: httpx2.AsyncClient,
    stored: list[JsonBody],
    q: str,
    names: list[str],
    sort: str | None,
) -> None:
    query = {"q": q} if sort is None else {"q": q, "sort": sort}
    for limit in (1, 50):
        found = await list_jobs(alice, limit, **query)
        assert sorted(job["name"] for job in found) == sorted(names)


async def test_a_renamed_job_is_found_by_its_new_name(
    alice: httpx2.AsyncClient, stored: list[JsonBody]
) -> None:
    await alice.patch(f"/jobs/{stored[0]['id']}", json={"name": "Omega"})
    assert [job["name"] for job in await list_jobs(alice, 9, q="omega")] == ["Omega"]
    assert [job["name"] for job in await list_jobs(alice, 9, q="beta")] == ["beta"]


async def test_the_cursor_of_another_query_is_rejected(
    alice: httpx2.AsyncClient, stored: list[JsonBody]
) -> None:
    queries: list[JsonBody] = [
        {},
        {"sort": "created_at"},
        {"sort": "name"},
        {"sort": "-name"},
        {"tag": "even"},
        {"active": True},
        {"target_type": "log"},
        {"q": "alpha"},
    ]
    cursors = {}
    for i, query in enumerate(queries):
        page = (await alice.get("/jobs", params={"limit": 1, **query})).json()
        cursors[i] = page["next_cursor"]
    for i, query in enumerate(queries):
        for j, cursor in cursors.items():
            response = await alice.get("/jobs", params={**query, "cursor": cursor})
            if i == j:
                assert response.status_code == 200
            else:
                assert_names(response, "/query/cursor")


async def test_a_tampered_cursor_is_rejected(
    alice: httpx2.AsyncClient, stored: list[JsonBody]
) -> None:
    cursor = (await alice.get("/jobs", params={"limit": 1})).json()["next_cursor"]
    tampered = [
        cursor[:i] + ("A" if c != "A" else "B") + cursor[i + 1 :] for i, c in enumerate(cursor[:-1])
    ]
    for bad in [*tampered[::5], "", "x", cursor[:-3], "W10", "e30", "bnVsbA", "x" * 6_001]:
        assert_names(await alice.get("/jobs", params={"cursor": bad}), "/query/cursor")


@pytest.mark.parametrize("letter", ["\ufdfa", "\x01", "\U0001f4a3"])
async def test_pages_of_the_longest_names_follow_each_other(
    alice: httpx2.AsyncClient, letter: str
) -> None:
    """NFKC makes 18 letters of U+FDFA, so the folded name has 3,600."""
    names = [letter * 200, letter * 199 + "a", letter * 200]
    ids = {(await create_job(alice, name=name))["id"] for name in names}
    for sort in ("name", "-name"):
        found = await list_jobs(alice, 1, sort=sort)
        assert {job["id"] for job in found} == ids
        assert len(found) == len(names)


async def test_a_cursor_of_another_user_shows_only_own_jobs(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, stored: list[JsonBody]
) -> None:
    cursor = (await alice.get("/jobs", params={"limit": 1})).json()["next_cursor"]
    mine = {job["id"] for job in await list_jobs(bob, 50)}
    page = (await bob.get("/jobs", params={"cursor": cursor})).json()
    assert {job["id"] for job in page["items"]} <= mine


async def test_a_cursor_stays_valid_after_its_job_is_deleted(
    alice: httpx2.AsyncClient, stored: list[JsonBody]
) -> None:
    for sort in ("name", "-created_at"):
        every = await list_jobs(alice, 50, sort=sort)
        page = (await alice.get("/jobs", params={"limit": 2, "sort": sort})).json()
        await alice.delete(f"/jobs/{every[1]['id']}")
        query = {"sort": sort, "cursor": page["next_cursor"], "fields": "full"}
        assert (await alice.get("/jobs", params=query)).json()["items"] == every[2:]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"cursor": "garbage"}, "/query/cursor"),
        ({"cursor": "W10"}, "/query/cursor"),
        ({"cursor": "WyJ4Il0"}, "/query/cursor"),
        ({"cursor": "x" * 300}, "/query/cursor"),
        ({"q": "x" * 65}, "/query/q"),
        ({"q": "(" * 300}, "/query/q"),
        ({"q": "x" * 60_000}, "/query/q"),
        ({"q": ""}, "/query/q"),
        ({"q": "a\0"}, "/query/q"),
        ({"sort": "next_run"}, "/query/sort"),
        ({"sort": "$natural"}, "/query/sort"),
        ({"sort": ""}, "/query/sort"),
        ({"sort": "owner_id"}, "/query/sort"),
        ({"limit": 0}, "/query/limit"),
        ({"limit": -1}, "/query/limit"),
        ({"limit": 201}, "/query/limit"),
        ({"limit": 10**9}, "/query/limit"),
        ({"limit": "9" * 5_000}, "/query/limit"),
        ({"limit": "ten"}, "/query/limit"),
        ({"fields": "some"}, "/query/fields"),
        ({"fields": ""}, "/query/fields"),
        ({"active": "perhaps"}, "/query/active"),
        ({"tag": ""}, "/query/tag"),
        ({"tag": "\0"}, "/query/tag"),
        ({"target_type": "smoke"}, "/query/target_type"),
        ({"status": "sleeping"}, "/query/status"),
        ({"q[$gt]": ""}, "/query/q[$gt]"),
        ({"owner_id": "x"}, "/query/owner_id"),
        ({"skip": 5}, "/query/skip"),
    ],
)
async def test_an_invalid_query_names_the_parameter(
    alice: httpx2.AsyncClient, query: JsonBody, pointer: str
) -> None:
    assert_names(await alice.get("/jobs", params=query), pointer)


async def test_an_admin_pages_through_the_jobs_of_all_users(
    admin: httpx2.AsyncClient, stored: list[JsonBody]
) -> None:
    every = await list_jobs(admin, 3, sort="name")
    assert len(every) == len(stored) + 1
    assert every == sorted(every, key=make_name_key)
    assert len(await list_jobs(admin, 2, tag="even")) == 6
    assert len(await list_jobs(admin, 2, q="beta")) == 3


@pytest.mark.parametrize("collection", ["jobs", "executions"])
async def test_a_listing_that_takes_too_long_is_a_503(
    alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, collection: str
) -> None:
    monkeypatch.setattr(f"app.repositories.{collection}.LISTING_LIMIT", timedelta(microseconds=1))
    response = await alice.get(f"/{collection}")
    assert_problem(response, 503)
    assert response.headers["retry-after"]
