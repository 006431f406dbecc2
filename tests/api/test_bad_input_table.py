"""The table of bad input, row by row, over every route that takes a body: always the 4xx that is
meant, never a 5xx, never a hang, and nothing half written."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import httpx2
import pytest

from tests.support.api import MAX_BODY_BYTES, Api, JsonBody, assert_problem

MOST_SECONDS = 5.0
UNCHANGED = ("jobs", "executions", "users")
CANARY = "canary-4711-password"


def job(**fields: Any) -> bytes:
    return json.dumps({"name": "x", **fields}).encode()


def raw(member: str) -> bytes:
    return b'{"name": "x", ' + member.encode() + b"}"


def scheduled(**fields: Any) -> bytes:
    return job(schedules=[fields])


def cron(expression: Any, **fields: Any) -> list[bytes]:
    return [
        scheduled(type="cron", cron_expression=expression, **fields),
        job(cron_expression=expression),
    ]


def interval(seconds: Any) -> list[bytes]:
    return [scheduled(type="interval", interval_seconds=seconds), job(interval=seconds)]


def zone(name: Any) -> list[bytes]:
    return [
        scheduled(type="cron", cron_expression="0 9 * * *", timezone=name),
        job(interval=60, timezone=name),
    ]


def nested(levels: int) -> bytes:
    return raw('"parameters": {"a": ' + "[" * levels + "]" * levels + "}")


def once(instant: str) -> list[bytes]:
    return [
        scheduled(type="one_time", run_at=instant),
        scheduled(type="interval", interval_seconds=60, start_at=instant),
        job(interval=60, next_run=instant),
    ]


OPERATOR = {"$gt": ""}
BODIES: dict[str, list[bytes]] = {
    "JSON NaN, 1e999": [
        raw(f'"{field}": {number}')
        for field in ("parameters", "timeout_seconds", "name")
        for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")
    ]
    + [raw('"parameters": {"a": [NaN]}'), raw('"parameters": {"a": 1e999}')],
    "lone surrogate, NUL in strings or keys": [
        raw(member.replace("BAD", bad))
        for bad in ("\\ud800", "\\udfff\\ud800", "\\u0000")
        for member in (
            '"name": "aBAD"',
            '"description": "aBAD"',
            '"tags": ["aBAD"]',
            '"parameters": {"a": "aBAD"}',
            '"parameters": {"aBAD": 1}',
            '"aBAD": 1',
            '"cron_expression": "0 9 * * *BAD"',
            '"timezone": "UTCBAD", "interval": 5',
        )
    ],
    "integer of 2^63 or more anywhere": [
        raw(member.replace("BAD", number))
        for number in (f"{2**63}", f"{-(2**63) - 1}", "9" * 300, "9" * 4_500)
        for member in (
            '"parameters": {"a": [{"b": BAD}]}',
            '"timeout_seconds": BAD',
            '"interval": BAD',
            '"retry": {"max_attempts": BAD}',
            '"schedule_config": {"seconds": BAD}',
            '"target": {"type": "http", "url": "https://example.com/", "body": BAD}',
        )
    ],
    "200 or 20,000 levels of nesting": [nested(levels) for levels in (33, 200, 20_000)]
    + [b"[" * 20_000, b'{"a":' * 10_000, b'{"name": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"],
    "year 0001 or 9999": [
        body
        for year in ("0001", "0000", "1999", "2101", "9999")
        for body in once(f"{year}-12-31T23:59:59Z")
    ]
    + once("0001-01-01T00:00:00+14:00")
    + once("9999-12-31T23:59:59-14:00"),
    "cron of 200,000 items, 5,000 digits, newline, Unicode digits, R, 7 fields, @reboot": [
        body
        for expression in (
            ",".join(["1"] * 45_000) + " * * * *",
            "1" * 5_000 + " * * * *",
            "0 9 * * *\n",
            "0\n9 * * *",
            "\u0660 9 * * *",
            "R 9 * * *",
            "0 0 9 * * * 2026",
            "@reboot",
            "*/0 * * * *",
            "* * * *",
            "",
        )
        for body in cron(expression)
    ],
    "a cron expression that never fires": cron("0 0 30 2 *") + cron("0 0 31 4,6,9,11 *"),
    "interval 0, negative, 1 ns, 10^12 s; max_attempts 10^9; timeout 0": [
        *(body for seconds in (0, -1, 1e-9, 0.5, 10**12, True, "5") for body in interval(seconds)),
        *(job(retry={"max_attempts": n}) for n in (0, -1, 10**9, 1.5, True)),
        *(job(timeout_seconds=n) for n in (0, -1, 1e-9, 10**12, True, "60")),
        *(job(interval=s) for s in ("PT0S", "P1M", "-PT5S", "PT" + "9" * 400 + "S")),
    ],
    "time zone ../../etc/passwd, localtime, a removed one": [
        body
        for name in ("../../etc/passwd", "/etc/passwd", "localtime", "posixrules", "Mars/Olympus")
        for body in zone(name)
    ]
    + zone("UTC\n")
    + zone("")
    + zone("x" * 10_000),
    "an operator in place of any string": [
        job(**{field: OPERATOR})
        for field in ("name", "description", "tags", "cron_expression", "overlap_policy", "target")
    ]
    + [*cron(OPERATOR), *zone(OPERATOR), job(tags=[OPERATOR]), job(id=OPERATOR)]
    + [scheduled(type=OPERATOR), scheduled(type="one_time", run_at=OPERATOR)]
    + [job(interval=OPERATOR), job(catch_up={"policy": OPERATOR}), job(**{"$where": "1"})],
    "a wrong password in a 422": [
        job(active=CANARY),
        job(password=CANARY),
        job(target={"type": "http", "url": "https://x/", "headers": {"Host": CANARY}}),
        job(target={"type": "http", "url": f"https://user:{CANARY}@example.com/"}),
        raw(f'"parameters": {CANARY}'),
    ],
}


def shaped_for(path: str, body: bytes) -> bytes:
    """The body of a job as what the route takes, so that it is refused for what is bad in it."""
    if "schedules" in path:
        _, found, rest = body.partition(b'"schedules": [')
        return rest.removesuffix(b"]}") if found else body
    if path.endswith(("/execute", "/retry")):
        return body.replace(b'{"name": "x", "parameters"', b'{"parameters"')
    return body


@dataclass
class Table:
    """A client, and things to write to, whose stores must not change."""

    api: Api
    client: httpx2.AsyncClient
    job: JsonBody
    ids: dict[str, str]
    """By their names in paths."""

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Every route that takes a JSON body, by the document: a new one is tried at once."""
        return [
            (method.upper(), path.format(**self.ids))
            for path, operations in self.api.app.openapi()["paths"].items()
            for method, operation in operations.items()
            if "application/json" in operation.get("requestBody", {}).get("content", {})
        ]

    async def send(self, method: str, path: str, content: bytes, **headers: str) -> httpx2.Response:
        headers = {"Content-Type": "application/json", **headers}
        begun = perf_counter()
        response = await self.client.request(method, path, content=content, headers=headers)
        assert perf_counter() - begun < MOST_SECONDS
        return response

    async def contents(self) -> dict[str, list[Any]]:
        return {
            name: await self.api.database.collection(name).find().sort("_id", 1).to_list(None)
            for name in UNCHANGED
        }


@pytest.fixture
async def table(api: Api, alice: httpx2.AsyncClient) -> AsyncIterator[Table]:
    target = {"type": "http", "url": "https://example.com/"}
    body = {"name": "there", "interval": 3600, "target": target}
    created = (await alice.post("/jobs", json=body)).json()
    execution = (await alice.post(f"/jobs/{created['id']}/execute")).json()
    ids = {
        "job_id": created["id"],
        "schedule_id": created["schedules"][0]["id"],
        "execution_id": execution["id"],
    }
    table = Table(api, alice, created, ids)
    before = await table.contents()
    yield table
    assert await table.contents() == before


@pytest.mark.parametrize("row", BODIES)
async def test_a_body_of_the_table_is_a_422(table: Table, row: str) -> None:
    assert {method for method, _ in table.writes} >= {"POST", "PUT", "PATCH"}
    for method, path in table.writes:
        for body in BODIES[row]:
            content = shaped_for(path, body)
            response = await table.send(method, path, content)
            if len(content) > MAX_BODY_BYTES:
                assert_problem(response, 413)
                continue
            assert assert_problem(response, 422)["errors"]
            assert CANARY not in response.text


async def test_keys_with_a_meaning_in_mongodb_are_returned_unchanged(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    odd = {"$set": {"a.b": 1}, "a.b": [{"$where": "1"}], "": "", "$gt": None, "_id": {"$oid": "x"}}
    for edit in (False, True):
        body = {"name": "x"} if edit else {"name": "x", "parameters": odd}
        path = f"/jobs/{(await alice.post('/jobs', json=body)).json()['id']}"
        if edit:
            await alice.patch(path, json={"parameters": odd})
        assert (await alice.get(path)).json()["parameters"] == odd
        response = await alice.post(f"{path}/execute", json={"parameters": odd})
        execution = await alice.get(f"/executions/{response.json()['id']}")
        assert execution.json()["parameters"] == odd
        assert (await alice.patch(path, json={"name": "y"})).json()["parameters"] == odd
    assert len((await alice.get("/jobs")).json()["items"]) == 2


async def test_a_body_of_10_mb_is_a_413_with_and_without_content_length(table: Table) -> None:
    large = job(description="x" * 10_000_000)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    headers = {"Content-Type": "application/json"}
    for method, path in table.writes:
        assert_problem(await table.send(method, path, large), 413)
        chunked = await table.client.request(method, path, content=chunks(), headers=headers)
        assert_problem(chunked, 413)
        keyed = await table.send(method, path, large, **{"Idempotency-Key": "k"})
        assert_problem(keyed, 413)


async def test_a_body_that_is_not_json_is_a_415(table: Table) -> None:
    for method, path in table.writes:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            response = await table.send(method, path, b'{"name": "x"}', **{"Content-Type": kind})
            assert_problem(response, 415)


async def test_a_never_firing_cron_is_refused_in_50_ms(table: Table) -> None:
    content = job(cron_expression="0 0 30 2 *")
    seconds = []
    for _ in range(5):
        begun = perf_counter()
        assert_problem(await table.send("POST", "/jobs", content), 422)
        seconds.append(perf_counter() - begun)
    assert min(seconds) < 0.05


@pytest.mark.parametrize(
    "bad", ['{"$gt": ""}', "%00", "%ff%fe", "..%2f..%2fetc", "x" * 5_000, "(a+)+$", "-1", "%F0%9F"]
)
async def test_an_operator_or_garbage_in_a_path_is_a_404(table: Table, bad: str) -> None:
    for path in (f"/jobs/{bad}", f"/jobs/{bad}/executions", f"/executions/{bad}"):
        assert_problem(await table.client.get(path), 404)
    for method, path in (
        ("DELETE", f"/jobs/{bad}"),
        ("PATCH", f"/jobs/{bad}"),
        ("POST", f"/jobs/{bad}/activate"),
        ("POST", f"/jobs/{bad}/execute"),
    ):
        response = await table.send(method, path, b"{}" if method == "PATCH" else b"")
        assert_problem(response, 404)


@pytest.mark.parametrize("path", ["/jobs", "/jobs/{id}/executions"])
@pytest.mark.parametrize(
    "query",
    [
        *({"limit": limit} for limit in (-1, 0, 10**9, "1e3", "\u0663", '{"$gt": ""}')),
        *({"cursor": cursor} for cursor in ("x", "e30", "W10", '{"$gt": ""}', "\0", "Å")),
        {"status": '{"$gt": ""}'},
        {"status[$ne]": "failed"},
        {"skip": "10"},
    ],
)
async def test_a_limit_or_cursor_of_the_table_is_a_422(
    table: Table, path: str, query: JsonBody
) -> None:
    response = await table.client.get(path.format(id=table.job["id"]), params=query)
    assert_problem(response, 422)


@pytest.mark.parametrize("q", ["(a+)+$" * 10, "(" * 64, "[", "\\", "*", ".*" * 32, "$ne"])
async def test_a_search_of_the_table_finds_nothing_quickly(table: Table, q: str) -> None:
    begun = perf_counter()
    response = await table.client.get("/jobs", params={"q": q})
    assert perf_counter() - begun < 1
    assert response.json()["items"] == []


async def test_an_operator_in_the_sign_in_form_does_not_sign_in(nobody: httpx2.AsyncClient) -> None:
    for form in (
        {"username[$gt]": "", "password[$gt]": ""},
        {"username": '{"$gt": ""}', "password": '{"$gt": ""}'},
        {"username": "alice\0", "password": CANARY},
        {"username": "alice", "password": CANARY * 100},
        {"username": "alice", "password": CANARY, "grant_type": OPERATOR["$gt"] or "x"},
    ):
        response = await nobody.post("/token", data=form)
        assert response.status_code in {401, 422}
        assert_problem(response, response.status_code)
        assert CANARY not in response.text


async def test_without_a_token_a_wrong_body_is_a_401(
    table: Table, nobody: httpx2.AsyncClient
) -> None:
    headers = {"Content-Type": "application/json"}
    contents = [b"{", b'{"nome": 1}', b"[]", b"x" * (MAX_BODY_BYTES + 1)]
    for method, path in table.writes:
        for content in contents:
            for kind in (headers, {"Content-Type": "text/plain"}, headers | {"If-Match": "x"}):
                response = await nobody.request(method, path, content=content, headers=kind)
                assert_problem(response, 401)
