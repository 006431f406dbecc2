"""Instants have one form in responses: UTC, with milliseconds only if they are not zero."""

from datetime import datetime, timedelta
from typing import Any, get_args, get_origin

import httpx2
from fastapi.routing import APIRoute
from pydantic import BaseModel, PlainSerializer

from tests.support.api import Api


async def test_jobs_schedules_and_executions_show_milliseconds(
    api: Api, alice: httpx2.AsyncClient
) -> None:
    api.clock.advance(timedelta(milliseconds=164))
    job = (await alice.post("/jobs", json={"name": "x", "interval": 60})).json()
    assert job["created_at"] == job["schedules"][0]["anchor_at"] == "2026-11-23T08:00:00.164Z"
    assert job["next_run"] == job["schedules"][0]["next_run"] == "2026-11-23T08:01:00.164Z"
    execution = (await alice.post(f"/jobs/{job['id']}/execute")).json()
    assert execution["run_at"] == "2026-11-23T08:00:00.164Z"
    assert execution["finished_at"] is None


def test_no_response_model_has_an_instant_in_another_form(api: Api) -> None:
    seen: set[type[BaseModel]] = set()
    routers = [vars(route).get("original_router") for route in api.app.routes]
    for route in [route for router in routers if router for route in router.routes]:
        if isinstance(route, APIRoute) and route.response_model is not None:
            bare = list(find_bare_instants(route.response_model, seen))
            assert bare == [], f"{route.path}: declare these as Instant (app/models/record.py)"
    assert len(seen) > 5


def find_bare_instants(kind: Any, seen: set[type[BaseModel]]) -> Any:
    """Yield the fields of a response type that are a datetime but not an `Instant`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if kind in seen:
            return
        seen.add(kind)
        for name, field in kind.model_fields.items():
            is_instant = any(isinstance(part, PlainSerializer) for part in field.metadata)
            if field.annotation is datetime and not is_instant:
                yield f"{kind.__name__}.{name}"
            yield from find_bare_instants(field.annotation, seen)
    elif get_origin(kind) is not None and not any(
        isinstance(part, PlainSerializer) for part in getattr(kind, "__metadata__", ())
    ):
        for part in get_args(kind):
            if part is datetime:
                yield str(kind)
            yield from find_bare_instants(part, seen)
