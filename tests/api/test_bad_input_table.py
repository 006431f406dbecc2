"""Sends every bad body of the table `BODIES` to every route that takes a JSON body.

Each request gets a 413 or a 422 within 5 s and changes no stored document. The other tests send
other bad input: paths, queries, forms, content types. test_bad_input.py checks which field an error
names.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import httpx2
import pytest

from tests.support.api import MAX_REQUEST_BYTES, Api, JsonBody, assert_problem

MOST_SECONDS = 5.0
COLLECTIONS = ("jobs", "executions", "users")
CANARY = "canary-4711-password"


def encode_job(**fields: Any) -> bytes:
    return json.dumps({"name": "x", **fields}).encode()


def encode_raw_job(member: str) -> bytes:
    """Return the body of a job with this member, which need not be valid JSON."""
    return b'{"name": "x", ' + member.encode() + b"}"


def encode_schedule(**fields: Any) -> bytes:
    return encode_job(schedules=[fields])


def encode_cron(expression: Any) -> list[bytes]:
    return [
        encode_schedule(type="cron", cron_expression=expression),
        encode_job(cron_expression=expression),
    ]


def encode_interval(seconds: Any) -> list[bytes]:
    return [
        encode_schedule(type="interval", interval_seconds=seconds),
        encode_job(interval=seconds),
    ]


def encode_zone(name: Any) -> list[bytes]:
    return [
        encode_schedule(type="cron", cron_expression="0 9 * * *", timezone=name),
        encode_job(interval=60, timezone=name),
    ]


def encode_nested(levels: int) -> bytes:
    return encode_raw_job('"parameters": {"a": ' + "[" * levels + "]" * levels + "}")


def encode_instant(instant: str) -> list[bytes]:
    return [
        encode_schedule(type="one_time", run_at=instant),
        encode_schedule(type="interval", interval_seconds=60, start_at=instant),
        encode_job(interval=60, next_run=instant),
    ]


OPERATOR = {"$gt": ""}
REMOVED_ZONE = "US/Pacific-New"  # a name that the IANA database had until 2020
BODIES: dict[str, list[bytes]] = {
    "JSON NaN, 1e999": [
        encode_raw_job(f'"{field}": {number}')
        for field in ("parameters", "timeout_seconds", "name")
        for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")
    ]
    + [encode_raw_job('"parameters": {"a": [NaN]}'), encode_raw_job('"parameters": {"a": 1e999}')],
    "lone surrogate, NUL in strings or keys": [
        encode_raw_job(member.replace("BAD", bad))
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
        encode_raw_job(member.replace("BAD", number))
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
    "33 or more levels of nesting": [encode_nested(levels) for levels in (33, 200, 20_000)]
    + [b"[" * 20_000, b'{"a":' * 10_000, b'{"name": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"],
    "years before 2000 or after 2100": [
        body
        for year in ("0001", "0000", "1999", "2101", "9999")
        for body in encode_instant(f"{year}-12-31T23:59:59Z")
    ]
    + encode_instant("0001-01-01T00:00:00+14:00")
    + encode_instant("9999-12-31T23:59:59-14:00"),
    "cron of 45,000 items, 5,000 digits, newline, Unicode digits, R, 7 fields, @reboot": [
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
        for body in encode_cron(expression)
    ],
    "a cron expression that never fires": encode_cron("0 0 30 2 *")
    + encode_cron("0 0 31 4,6,9,11 *"),
    "interval 0, negative, 1 ns, 10^12 s; max_attempts 10^9; timeout 0": [
        *(
            body
            for seconds in (0, -1, 1e-9, 0.5, 10**12, True, "5")
            for body in encode_interval(seconds)
        ),
        *(encode_job(retry={"max_attempts": n}) for n in (0, -1, 10**9, 1.5, True)),
        *(encode_job(timeout_seconds=n) for n in (0, -1, 1e-9, 10**12, True, "60")),
        *(encode_job(interval=s) for s in ("PT0S", "P1M", "-PT5S", "PT" + "9" * 400 + "S")),
    ],
    "time zone ../../etc/passwd, localtime, unknown, removed": [
        body
        for name in (
            "../../etc/passwd",
            "/etc/passwd",
            "localtime",
            "posixrules",
            "Mars/Olympus",
            REMOVED_ZONE,
        )
        for body in encode_zone(name)
    ]
    + encode_zone("UTC\n")
    + encode_zone("")
    + encode_zone("x" * 10_000),
    "a MongoDB operator instead of a string": [
        encode_job(**{field: OPERATOR})
        for field in ("name", "description", "tags", "cron_expression", "overlap_policy", "target")
    ]
    + [
        *encode_cron(OPERATOR),
        *encode_zone(OPERATOR),
        encode_job(tags=[OPERATOR]),
        encode_job(timeout_seconds=OPERATOR),
    ]
    + [encode_schedule(type=OPERATOR), encode_schedule(type="one_time", run_at=OPERATOR)]
    + [
        encode_job(interval=OPERATOR),
        encode_job(catch_up={"policy": OPERATOR}),
        encode_job(**{"$where": "1"}),
    ],
    "secrets that a 422 must not repeat": [
        encode_job(active=CANARY),
        encode_job(password=CANARY),
        encode_job(target={"type": "http", "url": "https://x/", "headers": {"Host": CANARY}}),
        encode_job(target={"type": "http", "url": f"https://user:{CANARY}@example.com/"}),
        encode_raw_job(f'"parameters": {CANARY}'),
    ],
}


def fit_body_to_route(path: str, body: bytes) -> bytes:
    """Change the body of a job into a body of the route's shape, so that only the bad value can
    cause the error."""
    if "schedules" in path:
        _, found, rest = body.partition(b'"schedules": [')
        return rest.removesuffix(b"]}") if found else body
    if path.endswith(("/execute", "/retry")):
        return body.replace(b'{"name": "x", "parameters"', b'{"parameters"')
    return body


@dataclass
class Table:
    """A client and its resources. The fixture asserts that the tests change no stored document."""

    api: Api
    client: httpx2.AsyncClient
    job: JsonBody
    ids: dict[str, str]
    """The ids of the resources, by the name of the path parameter."""

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Every route with a JSON body, from the OpenAPI document, so a new route is tested
        automatically."""
        return [
            (method.upper(), path.format(**self.ids))
            for path, operations in self.api.app.openapi()["paths"].items()
            for method, operation in operations.items()
            if "application/json" in operation.get("requestBody", {}).get("content", {})
        ]

    async def send(self, method: str, path: str, content: bytes, **headers: str) -> httpx2.Response:
        headers = {"Content-Type": "application/json", **headers}
        started = perf_counter()
        response = await self.client.request(method, path, content=content, headers=headers)
        assert perf_counter() - started < MOST_SECONDS
        return response

    async def read_contents(self) -> dict[str, list[Any]]:
        return {
            name: await self.api.database.collection(name).find().sort("_id", 1).to_list(None)
            for name in COLLECTIONS
        }


@pytest.fixture
async def table(api: Api, alice: httpx2.AsyncClient) -> AsyncIterator[Table]:
    target = {"type": "http", "url": "https://example.com/"}
    body = {"name": "a job", "interval": 3600, "target": target}
    created = (await alice.post("/jobs", json=body)).json()
    execution = (await alice.post(f"/jobs/{created['id']}/execute")).json()
    ids = {
        "job_id": created["id"],
        "schedule_id": created["schedules"][0]["id"],
        "execution_id": execution["id"],
    }
    table = Table(api, alice, created, ids)
    before = await table.read_contents()
    yield table
    assert await table.read_contents() == before


@pytest.mark.parametrize("row", BODIES)
async def test_a_body_of_the_table_is_a_422(table: Table, row: str) -> None:
    assert {method for method, _ in table.writes} >= {"POST", "PUT", "PATCH"}
    for method, path in table.writes:
        for body in BODIES[row]:
            content = fit_body_to_route(path, body)
            response = await table.send(method, path, content)
            if len(content) > MAX_REQUEST_BYTES:
                assert_problem(response, 413)
                continue
            assert assert_problem(response, 422)["errors"]
            assert CANARY not in response.text


async def test_keys_with_a_meaning_in_mongodb_are_returned_unchanged(
    alice: httpx2.AsyncClient,
) -> None:
    odd = {"$set": {"a.b": 1}, "a.b": [{"$where": "1"}], "": "", "$gt": None, "_id": {"$oid": "x"}}
    odd |= {"__proto__": {}, "é": "\u2028"}
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
    large = encode_job(description="x" * 10_000_000)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    headers = {"Content-Type": "application/json"}
    for method, path in table.writes:
        problem = assert_problem(await table.send(method, path, large), 413)
        assert problem["type"] == "urn:carillon:problem:too_large"
        chunked = await table.client.request(method, path, content=chunks(), headers=headers)
        assert_problem(chunked, 413)
        keyed = await table.send(method, path, large, **{"Idempotency-Key": "k"})
        assert_problem(keyed, 413)


async def test_a_body_that_is_not_json_is_a_415(table: Table) -> None:
    for method, path in table.writes:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            response = await table.send(method, path, b'{"name": "x"}', **{"Content-Type": kind})
            assert_problem(response, 415)


async def test_a_never_firing_cron_is_rejected_in_50_ms(table: Table) -> None:
    content = encode_job(cron_expression="0 0 30 2 *")
    seconds = []
    for _ in range(5):
        started = perf_counter()
        assert_problem(await table.send("POST", "/jobs", content), 422)
        seconds.append(perf_counter() - started)
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
    started = perf_counter()
    response = await table.client.get("/jobs", params={"q": q})
    assert perf_counter() - started < 1
    assert response.json()["items"] == []


async def test_an_operator_in_the_sign_in_form_does_not_sign_in(nobody: httpx2.AsyncClient) -> None:
    for form in (
        {"username[$gt]": "", "password[$gt]": ""},
        {"username": '{"$gt": ""}', "password": '{"$gt": ""}'},
        {"username": "alice\0", "password": CANARY},
        {"username": "alice", "password": CANARY * 100},
        {"username": "alice", "password": CANARY, "grant_type": "x"},
    ):
        response = await nobody.post("/token", data=form)
        assert response.status_code in {401, 422}
        assert_problem(response, response.status_code)
        assert CANARY not in response.text


async def test_without_a_token_a_wrong_body_is_a_401(
    table: Table, nobody: httpx2.AsyncClient
) -> None:
    headers = {"Content-Type": "application/json"}
    contents = [b"{", b'{"nome": 1}', b"[]", b"x" * (MAX_REQUEST_BYTES + 1)]
    for method, path in table.writes:
        for content in contents:
            for kind in (headers, {"Content-Type": "text/plain"}, headers | {"If-Match": "x"}):
                response = await nobody.request(method, path, content=content, headers=kind)
                assert_problem(response, 401)
