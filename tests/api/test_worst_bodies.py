"""The most expensive bodies that the limits allow, for every list and object in the API.

A new field without a limit of its length fails here. `python -m bench worst-bodies` takes times and
memory.
"""

import gc
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute
from starlette import requests
from starlette.datastructures import QueryParams

from app.main import create_app
from app.routers import executions, jobs, json_route, schedules
from app.runtime import Runtime
from app.schemas.json_size import MAX_VALUES
from app.schemas.json_types import MAX_MEMBERS
from app.settings import Settings
from tests.support.api import MAX_REQUEST_BYTES, Api, assert_names, assert_problem
from tests.support.worst_bodies import Place, list_bodies, list_places

MAX_BODY_BYTES = Settings.model_fields["max_body_bytes"].default
MAX_ERRORS = 20 * (MAX_MEMBERS + 10)  # each of 20 schedules has the unknown members and some others
MAX_KEPT_BYTES = 25_000_000
APP = create_app()


def is_collection(place: Place) -> bool:
    return place.kind in {"array", "object"}


def list_distinct_places() -> Iterator[Place]:
    """The lists and objects, without the operations whose body is that of an earlier one."""
    seen = set()
    for place in list_places(APP.openapi()):
        key = (str(place.schema), place.pointer, json.dumps(place.put(None)))
        if is_collection(place) and key not in seen:
            seen.add(key)
            yield place


PLACES = list(list_distinct_places())


def find_route(place: Place) -> APIRoute:
    (route,) = (
        route
        for router in (executions.router, jobs.router, schedules.router)
        for route in router.routes
        if isinstance(route, APIRoute)
        and route.path == place.path
        and place.method in (route.methods or ())
    )
    return route


def test_every_list_and_object_has_a_limit_or_is_free_form_json() -> None:
    assert len(PLACES) > 20
    for place in PLACES:
        schema = place.schema
        if place.kind == "array":
            assert schema["maxItems"] <= 50, place.name
        elif isinstance(schema.get("additionalProperties"), dict):
            assert schema["maxProperties"] <= 50, place.name
        elif not place.is_free:
            assert schema["additionalProperties"] is False, place.name
            assert len(schema["properties"]) < MAX_MEMBERS, place.name


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_the_worst_bodies_validate_few_items_and_keep_few_bytes(place: Place) -> None:
    validate = find_route(place).body_field.validate  # type: ignore[union-attr]
    for body in list_bodies(place, max_bytes=MAX_BODY_BYTES, max_values=MAX_VALUES):
        tracemalloc.start()
        try:
            value, errors = validate(json_route._parse(body.content), loc=("body",))
            _, most_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(errors) <= MAX_ERRORS, body.name
        assert most_bytes <= MAX_KEPT_BYTES, body.name
        if value is not None and not place.is_free:
            assert len(str(value)) <= MAX_BODY_BYTES, body.name


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the bodies that are parsed."""
    sizes: list[int] = []
    parse = json_route._parse

    def record(body: bytes) -> Any:
        sizes.append(len(body))
        return parse(body)

    monkeypatch.setattr(json_route, "_parse", record)
    return sizes


async def test_a_body_of_too_many_values_is_rejected_before_it_is_parsed(
    api: Api, alice: httpx2.AsyncClient, parsed: list[int]
) -> None:
    job = (await alice.post("/jobs", json={"name": "a job", "interval": 60})).json()
    execution = (await alice.post(f"/jobs/{job['id']}/execute")).json()
    ids = {
        "job_id": job["id"],
        "schedule_id": job["schedules"][0]["id"],
        "execution_id": execution["id"],
    }
    parsed.clear()
    content = b"[" + b",".join([b"7"] * MAX_VALUES) + b"]"
    assert len(content) < MAX_REQUEST_BYTES
    for place in PLACES:
        path = place.path.format(**ids)
        for key in ({}, {"Idempotency-Key": "k"} if place.method == "POST" else {}):
            headers = {"Content-Type": "application/json", **key}
            response = await alice.request(place.method, path, content=content, headers=headers)
            problem = assert_problem(response, 422)
            assert "at most 20,000 values" in problem["errors"][0]["detail"]
    assert parsed == []


async def test_many_errors_in_a_body_have_a_bounded_answer(alice: httpx2.AsyncClient) -> None:
    unknown = {f"{i:0>250}": 1 for i in range(MAX_MEMBERS - 2)}
    cron = {"type": "cron", "cron_expression": "x", **unknown}
    for body in (
        {"name": "x", "schedules": [cron] * 5},
        {"name": "x", **unknown},
        {"name": "x", "retry": {"retry_on": [7] * 50}},
        {"name": "x", "tags": [7] * 20},
    ):
        response = await alice.post("/jobs", json=body)
        assert 0 < len(assert_problem(response, 422)["errors"]) <= 50
        assert len(response.content) < 30_000
    body = {"name": "x", **{f"k{i}": 1 for i in range(MAX_MEMBERS)}}
    [error] = assert_problem(await alice.post("/jobs", json=body), 422)["errors"]
    assert error == {"pointer": "", "detail": "an object here may have at most 50 members, not 51"}


async def test_a_query_of_many_parameters_is_rejected_before_it_is_parsed(
    alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (await alice.post("/jobs", json={"name": "a job", "interval": 60})).json()
    paths = ("/jobs", "/executions", f"/jobs/{job['id']}/executions", f"/jobs/{job['id']}/why")
    for path in paths:
        most = await alice.get(f"{path}?{'&'.join(f'a{i}' for i in range(MAX_MEMBERS))}")
        assert "parameters" not in assert_problem(most, 422)["detail"]
    with monkeypatch.context() as patch:
        patch.setattr(QueryParams, "__init__", fail)
        for path in paths:
            for query in ("&".join(f"a{i}" for i in range(MAX_MEMBERS + 1)), "&" * 30_000):
                assert_names(await alice.get(f"{path}?{query}"), "/query")


async def test_cookies_are_not_parsed(
    alice: httpx2.AsyncClient, nobody: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser of Python 3.11 needs quadratic time for escaped quotes."""
    monkeypatch.setattr(requests, "cookie_parser", fail)
    headers = {"Cookie": 'a="' + '\\"' * 10_000 + '"'}
    assert (await alice.get("/jobs", headers=headers)).status_code == 200
    assert (await nobody.get("/health/live", headers=headers)).status_code == 200
    assert_problem(await nobody.post("/token", data={"username": "a"}, headers=headers), 422)


def fail(*_: object) -> None:
    raise AssertionError("this must not be parsed")


async def test_the_collector_does_not_visit_what_the_start_has_created(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body of many lists makes the collector visit every object that is not exempt."""
    events: list[str] = []

    async def record(event: str) -> None:
        events.append(event)

    monkeypatch.setattr(Runtime, "start", lambda _: record("start"))
    monkeypatch.setattr(Runtime, "stop", lambda _: record("stop"))
    monkeypatch.setattr(gc, "freeze", lambda: events.append("freeze"))
    app = create_app(api.runtime)
    async with app.router.lifespan_context(app):
        assert events == ["start", "freeze"]
    assert events == ["start", "freeze", "stop"]
