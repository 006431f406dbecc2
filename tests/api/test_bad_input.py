"""Invalid bodies of jobs: the 422 names the field and does not repeat the input.

test_bad_input_table.py sends invalid bodies to every route.
"""

import json
from typing import Any

import httpx2
import pytest

from tests.support.api import JsonBody, assert_names, assert_problem, create_job

HTTP: JsonBody = {"type": "http", "url": "https://example.com/"}
ONE_TIME: JsonBody = {"type": "one_time", "run_at": "2027-01-01T00:00:00Z"}
INTERVAL: JsonBody = {"type": "interval", "interval_seconds": 60}
CRON: JsonBody = {"type": "cron", "cron_expression": "0 9 * * MON"}
EMPTY_TARGET: JsonBody = {"target": {}}


def nest(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


WRONG: list[tuple[JsonBody, str]] = [
    ({"name": ""}, "/name"),
    ({"name": "x" * 201}, "/name"),
    ({"name": None}, "/name"),
    ({"name": 5}, "/name"),
    ({"name": {"$gt": ""}}, "/name"),
    ({"name": "a\0b"}, "/name"),
    ({"name": "\ud800"}, "/name"),
    ({"description": "x" * 2_001}, "/description"),
    ({"description": None}, "/description"),
    ({"active": "yes"}, "/active"),
    ({"active": 1}, "/active"),
    ({"tags": ["x"] * 21}, "/tags"),
    ({"tags": ["x" * 51]}, "/tags/0"),
    ({"tags": [""]}, "/tags/0"),
    ({"tags": "x"}, "/tags"),
    ({"parameters": []}, "/parameters"),
    ({"parameters": None}, "/parameters"),
    ({"parameters": {"a": [{"b": 2**63}]}}, "/parameters/a/0/b"),
    ({"parameters": {"a": -(2**63) - 1}}, "/parameters/a"),
    ({"parameters": {"a/b~c": "\ud800"}}, "/parameters/a~1b~0c"),
    ({"parameters": {"\ud800": 1}}, "/parameters"),
    ({"parameters": {"a\0": 1}}, "/parameters"),
    ({"parameters": {"a": nest(32)}}, "/parameters"),
    ({"parameters": {"a": "x" * 65_536}}, "/parameters"),
    ({"schedules": None}, "/schedules"),
    ({"schedules": {}}, "/schedules"),
    ({"schedules": [INTERVAL] * 21}, "/schedules"),
    ({"schedules": [5]}, "/schedules/0"),
    ({"schedules": [{}]}, "/schedules/0/type"),
    ({"schedules": [{"type": "weekly"}]}, "/schedules/0/type"),
    ({"schedules": [{"type": {"$gt": ""}}]}, "/schedules/0/type"),
    ({"schedules": [INTERVAL, {"type": "cron"}]}, "/schedules/1/cron_expression"),
    ({"schedules": [{**CRON, "cron_expression": "* * *"}]}, "/schedules/0/cron_expression"),
    ({"schedules": [{**CRON, "cron_expression": 5}]}, "/schedules/0/cron_expression"),
    ({"schedules": [{**CRON, "cron_expression": "0 0 30 2 *"}]}, "/schedules/0/cron_expression"),
    ({"schedules": [{**CRON, "cron_expression": "1" * 5_000}]}, "/schedules/0/cron_expression"),
    ({"schedules": [{**CRON, "seconds": True}]}, "/schedules/0/cron_expression"),
    ({"schedules": [{**CRON, "seconds": "yes"}]}, "/schedules/0/seconds"),
    ({"schedules": [{**CRON, "dst": "sometimes"}]}, "/schedules/0/dst"),
    ({"schedules": [{**CRON, "timezone": "Mars/Olympus"}]}, "/schedules/0/timezone"),
    ({"schedules": [{**CRON, "timezone": "../../etc/passwd"}]}, "/schedules/0/timezone"),
    ({"schedules": [{**CRON, "timezone": "localtime"}]}, "/schedules/0/timezone"),
    ({"schedules": [{**CRON, "interval_seconds": 5}]}, "/schedules/0/interval_seconds"),
    ({"schedules": [{**CRON, "next_runs": "2027-01-01T00:00:00Z"}]}, "/schedules/0/next_runs"),
    ({"schedules": [{**INTERVAL, "interval_seconds": 0}]}, "/schedules/0/interval_seconds"),
    ({"schedules": [{**INTERVAL, "interval_seconds": 10**12}]}, "/schedules/0/interval_seconds"),
    ({"schedules": [{**INTERVAL, "interval_seconds": 1e-9}]}, "/schedules/0/interval_seconds"),
    ({"schedules": [{**INTERVAL, "interval_seconds": True}]}, "/schedules/0/interval_seconds"),
    ({"schedules": [{**INTERVAL, "max_runs": 0}]}, "/schedules/0/max_runs"),
    ({"schedules": [{**INTERVAL, "max_runs": 10**10}]}, "/schedules/0/max_runs"),
    ({"schedules": [{**INTERVAL, "jitter_seconds": 86_401}]}, "/schedules/0/jitter_seconds"),
    ({"schedules": [{**INTERVAL, "start_at": "2027-01-01T00:00:00"}]}, "/schedules/0/start_at"),
    ({"schedules": [{**INTERVAL, "start_at": "0001-01-01T00:00:00Z"}]}, "/schedules/0/start_at"),
    (
        {"schedules": [{**INTERVAL, "start_at": "9999-12-31T23:59:59-14:00"}]},
        "/schedules/0/start_at",
    ),
    (
        {
            "schedules": [
                {
                    **INTERVAL,
                    "start_at": "2027-02-01T00:00:00Z",
                    "end_at": "2027-01-01T00:00:00Z",
                }
            ]
        },
        "/schedules/0/end_at",
    ),
    ({"schedules": [{**ONE_TIME, "run_at": 5}]}, "/schedules/0/run_at"),
    ({"schedules": [{**ONE_TIME, "run_at": "2027-02-30T00:00:00Z"}]}, "/schedules/0/run_at"),
    ({"schedules": [{**ONE_TIME, "run_at": "2027-01-01"}]}, "/schedules/0/run_at"),
    ({"retry": {"max_attempts": 0}}, "/retry/max_attempts"),
    ({"retry": {"max_attempts": 10**9}}, "/retry/max_attempts"),
    ({"retry": {"max_attempts": "3"}}, "/retry/max_attempts"),
    ({"retry": {"strategy": "linear"}}, "/retry/strategy"),
    ({"retry": {"delay_seconds": -1}}, "/retry/delay_seconds"),
    ({"retry": {"retry_on": ["sometimes"]}}, "/retry/retry_on/0"),
    ({"retry": {"retry_on": [99]}}, "/retry/retry_on/0"),
    ({"retry": {"retries": 1}}, "/retry/retries"),
    ({"retry": None}, "/retry"),
    ({"timeout_seconds": 0}, "/timeout_seconds"),
    ({"timeout_seconds": 86_401}, "/timeout_seconds"),
    ({"timeout_seconds": "60"}, "/timeout_seconds"),
    ({"timeout_seconds": 10**300}, "/timeout_seconds"),
    ({"overlap_policy": "buffer_some"}, "/overlap_policy"),
    ({"overlap_policy": "never"}, "/overlap_policy"),
    ({"catch_up": {"policy": "some"}}, "/catch_up/policy"),
    ({"catch_up": {"window_seconds": -1}}, "/catch_up/window_seconds"),
    ({"catch_up": "one"}, "/catch_up"),
    (EMPTY_TARGET, "/target/type"),
    ({"target": {"type": "smoke"}}, "/target/type"),
    ({"target": {"type": "http"}}, "/target/url"),
    ({"target": {**HTTP, "url": "ftp://example.com/"}}, "/target/url"),
    ({"target": {**HTTP, "url": "https://user:secret@example.com/"}}, "/target/url"),
    ({"target": {**HTTP, "method": "TRACE"}}, "/target/method"),
    ({"target": {**HTTP, "headers": {"Host": "x"}}}, "/target/headers"),
    ({"target": {**HTTP, "headers": {"X-A": "a\r\nB: c"}}}, "/target/headers"),
    ({"target": {**HTTP, "success_statuses": []}}, "/target/success_statuses"),
    ({"target": {**HTTP, "success_statuses": [20]}}, "/target/success_statuses/0"),
    ({"target": {**HTTP, "body": {"a": 2**64}}}, "/target/body/a"),
    ({"target": {"type": "log", "url": "https://example.com/"}}, "/target/url"),
    ({"status": "x"}, "/status"),
    ({"lease": {}}, "/lease"),
    ({"\ud800": 1}, ""),
]


def encode(body: Any) -> bytes:
    return json.dumps(body).encode()


async def post(client: httpx2.AsyncClient, content: bytes) -> httpx2.Response:
    return await client.post("/jobs", content=content, headers={"Content-Type": "application/json"})


async def test_an_invalid_new_job_names_the_field(alice: httpx2.AsyncClient) -> None:
    for change, pointer in WRONG:
        assert_names(await post(alice, encode({"name": "a job", **change})), pointer)
    assert (await alice.get("/jobs")).json()["items"] == []


async def test_an_invalid_edit_names_the_field(alice: httpx2.AsyncClient) -> None:
    job = (await alice.post("/jobs", json={"name": "a job"})).json()
    for change, pointer in WRONG:
        if change == EMPTY_TARGET:
            continue  # a valid edit, which changes no field of the target
        response = await alice.patch(
            f"/jobs/{job['id']}",
            content=encode(change),
            headers={"Content-Type": "application/json"},
        )
        assert_names(response, pointer)
    assert (await alice.get(f"/jobs/{job['id']}")).json() == job


async def test_an_edit_may_name_no_field_of_the_target_or_only_its_type(
    alice: httpx2.AsyncClient,
) -> None:
    job = (await alice.post("/jobs", json={"name": "a job", "target": HTTP})).json()
    for target in ({}, {"type": "http"}):
        response = await alice.patch(f"/jobs/{job['id']}", json={"target": target})
        assert response.status_code == 200
        assert response.json()["target"] == job["target"]


UNACCEPTABLE_JSON = [
    b"{",
    b"",
    b"[]",
    b'"name"',
    b"null",
    b'{"name": NaN}',
    b'{"name": "x", "timeout_seconds": Infinity}',
    b'{"name": "x", "timeout_seconds": 1e999}',
    b'{"name": "x", "timeout_seconds": ' + b"9" * 5_000 + b"}",
    b'{"name": "x", "name": "y"}',
    b'{"name": "\xff"}',
    b"\xef\xbb\xbf{}",
    '{"name": "x"}'.encode("utf-16"),
    b'{"name": "x", "parameters": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"name": "x", "parameters": {"a": ' + b"[" * 200 + b"]" * 200 + b"}}",
]


async def test_invalid_or_ambiguous_json_is_rejected(alice: httpx2.AsyncClient) -> None:
    for content in UNACCEPTABLE_JSON:
        assert assert_problem(await post(alice, content), 422)["errors"]


async def test_a_422_does_not_repeat_the_input(alice: httpx2.AsyncClient) -> None:
    canary = "canary-4711"
    for body in (
        {"name": canary, "active": canary},
        {"name": "x", "schedules": [{"type": canary}]},
        {"name": "x", "overlap_policy": canary},
        {"name": "x", "cron_expression": canary},
        {"name": "x", "timezone": canary, "interval": 5},
        {"name": "x", "target": {"type": "http", "url": f"{canary}://x"}},
        {"name": "x", "target": {**HTTP, "headers": {"Host": canary}}},
        {"name": "x", "retry": {"retry_on": [canary]}},
    ):
        response = await alice.post("/jobs", json=body)
        assert_problem(response, 422)
        assert canary not in response.text
    assert canary not in (await post(alice, f'{{"name": {canary}'.encode())).text


async def test_integers_of_64_bits_are_returned_unchanged(alice: httpx2.AsyncClient) -> None:
    large = {"most": 2**63 - 1, "least": -(2**63)}
    job = (await alice.post("/jobs", json={"name": "x", "parameters": large})).json()
    assert (await alice.get(f"/jobs/{job['id']}")).json()["parameters"] == large


@pytest.mark.parametrize(
    ("method", "path", "name", "advice"),
    [
        ("POST", "/jobs/{id}/backfill?dry_run=true", "dry_run", "a field of the body"),
        ("POST", "/jobs/{id}/execute?wait=true", "wait", "does not exist"),
        ("POST", "/jobs?dry_run=true", "dry_run", "does not exist"),
        ("GET", "/jobs/{id}/next-runs?limit=2", "limit", "does not exist"),
        ("GET", "/jobs/{id}/next-runs?coun=2", "coun", "did you mean `count`?"),
        ("DELETE", "/jobs/{id}?a~/b=1", "a~0~1b", "does not exist"),
    ],
)
async def test_a_parameter_that_a_route_does_not_have_is_rejected(
    alice: httpx2.AsyncClient, method: str, path: str, name: str, advice: str
) -> None:
    """A misplaced `dry_run` would otherwise create the executions."""
    job = await create_job(alice)
    period = {"start": "2026-11-22T00:00:00Z", "end": "2026-11-22T01:00:00Z"}
    body = period if "backfill" in path else {}
    url = path.format(id=job["id"])
    response = await alice.request(method, url, json=body if method == "POST" else None)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["pointer"] == f"/query/{name}"
    assert advice in error["detail"]
    assert (await alice.get("/executions")).json()["items"] == []
