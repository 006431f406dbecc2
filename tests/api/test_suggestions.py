"""A 422 says what to write instead of a name that does not exist."""

from typing import Any

import httpx2
import pytest

from tests.support.api import JsonBody, assert_problem, create_job

INTERVAL: JsonBody = {"type": "interval", "interval_seconds": 60}


def find_detail(response: httpx2.Response, pointer: str) -> str:
    """The text of the 422 on the field at this JSON pointer."""
    errors = assert_problem(response, 422)["errors"]
    (detail,) = [error["detail"] for error in errors if error["pointer"] == pointer]
    assert isinstance(detail, str)
    return detail


@pytest.mark.parametrize(
    ("body", "pointer", "meant"),
    [
        ({"cron": "0 9 * * *"}, "/cron", "`cron_expression`"),
        ({"url": "https://example.com/"}, "/url", "`target.url`"),
        ({"retry": {"attempts": 3}}, "/retry/attempts", "`max_attempts`"),
        (
            {"target": {"type": "http", "uri": "https://example.com/"}},
            "/target/uri",
            "`url`",
        ),
        ({"schedules": [{**INTERVAL, "end_time": "x"}]}, "/schedules/0/end_time", "`end_at`"),
        ({"schedules": [INTERVAL, {**INTERVAL, "tz": "x"}]}, "/schedules/1/tz", "`timezone`"),
    ],
)
async def test_an_unknown_field_of_a_new_job_gets_the_name_that_was_meant(
    alice: httpx2.AsyncClient, body: JsonBody, pointer: str, meant: str
) -> None:
    response = await alice.post("/jobs", json={"name": "a job", **body})
    assert meant in find_detail(response, pointer)


async def test_an_unknown_field_of_an_edit_gets_the_name_that_was_meant(
    alice: httpx2.AsyncClient,
) -> None:
    job = await create_job(alice, schedules=[INTERVAL])
    path, schedule = f"/jobs/{job['id']}", job["schedules"][0]
    changes: list[tuple[str, JsonBody, str, str]] = [
        (path, {"timeout": 5}, "/timeout", "`timeout_seconds`"),
        (path, {"target": {"uri": "x"}}, "/target/uri", "`url`"),
        (path, {"schedules": [schedule | {"tz": "x"}]}, "/schedules/0/tz", "`timezone`"),
        (f"/schedules/{schedule['id']}", {"every": 5}, "/every", "`interval_seconds`"),
    ]
    for changed, body, pointer, meant in changes:
        assert meant in find_detail(await alice.put(changed, json=body), pointer)


async def test_unknown_fields_of_other_routes_get_the_name_that_was_meant(
    alice: httpx2.AsyncClient,
) -> None:
    job = await create_job(alice)
    response = await alice.post("/schedules/preview", json={**INTERVAL, "begin": "x"})
    assert "`start_at`" in find_detail(response, "/begin")
    response = await alice.post(f"/jobs/{job['id']}/execute", json={"payload": {}})
    assert "`parameters`" in find_detail(response, "/payload")
    response = await alice.post(f"/jobs/{job['id']}/backfill", json={"from": "x"})
    assert "`start`" in find_detail(response, "/from")
    response = await alice.get("/jobs", params={"page": 2})
    assert "`cursor`" in find_detail(response, "/query/page")
    response = await alice.get("/executions", params={"job": 2})
    assert "`job_id`" in find_detail(response, "/query/job")


@pytest.mark.parametrize(
    ("body", "pointer", "types"),
    [
        ({"target": {"url": "https://example.com/"}}, "/target/type", "http, log"),
        ({"schedules": [{}]}, "/schedules/0/type", "cron, interval, one_time"),
    ],
)
async def test_an_object_without_its_type_gets_the_types(
    alice: httpx2.AsyncClient, body: JsonBody, pointer: str, types: str
) -> None:
    response = await alice.post("/jobs", json={"name": "a job", **body})
    assert types in find_detail(response, pointer)


@pytest.mark.parametrize("name", ["id", "owner_id", "created_at", "last_run", "revision"])
async def test_a_new_job_is_told_to_omit_what_only_responses_have(
    alice: httpx2.AsyncClient, name: str
) -> None:
    response = await alice.post("/jobs", json={"name": "a job", name: "x"})
    assert "only responses have this field; omit it" in find_detail(response, f"/{name}")


async def test_a_misspelt_time_zone_gets_the_nearest_one(alice: httpx2.AsyncClient) -> None:
    schedule = {**INTERVAL, "timezone": "Europe/Berln"}
    response = await alice.post("/jobs", json={"name": "a job", "schedules": [schedule]})
    assert "did you mean Europe/Berlin?" in find_detail(response, "/schedules/0/timezone")
    response = await alice.post("/jobs", json={"name": "x", "interval": 5, "timezone": "utc"})
    assert "did you mean UTC?" in find_detail(response, "/timezone")


async def test_only_the_first_unknown_fields_get_a_suggestion(alice: httpx2.AsyncClient) -> None:
    unknown: dict[str, Any] = {f"timeout_second{n}": 5 for n in range(40)}
    response = await alice.post("/jobs", json={"name": "a job", **unknown})
    details = [error["detail"] for error in assert_problem(response, 422)["errors"]]
    assert len(details) == len(unknown)
    assert [("did you mean" in detail) for detail in details] == [True] * 10 + [False] * 30


@pytest.mark.parametrize(
    ("number", "end"), [(3, "exist"), (4, "; and 1 more"), (40, "; and 37 more")]
)
async def test_the_detail_counts_the_errors_that_it_does_not_name(
    alice: httpx2.AsyncClient, number: int, end: str
) -> None:
    body = {f"{n}x{n}": n for n in range(number - 1)}
    problem = assert_problem(await alice.post("/jobs", json=body), 422)
    assert problem["detail"].endswith(end)
