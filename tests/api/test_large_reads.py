"""Requests of one user for large responses do not delay those of others."""

import asyncio
from contextlib import AsyncExitStack

import httpx2
import pytest

from app.services.large_reads import MOST_OF_A_USER
from tests.support.api import Api

ROUTES = ("/jobs", "/executions", "/jobs/{job}/executions", "/executions/{execution}")


@pytest.mark.parametrize("route", ROUTES)
async def test_large_reads_of_a_user_wait_for_each_other(
    api: Api, alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, route: str
) -> None:
    job = (await alice.post("/jobs", json={"name": "a job"})).json()
    execution = (await alice.post(f"/jobs/{job['id']}/execute")).json()
    path = route.format(job=job["id"], execution=execution["id"])
    async with AsyncExitStack() as others:
        for _ in range(MOST_OF_A_USER):
            await others.enter_async_context(api.runtime.large_reads.enter(job["owner_id"]))
        waiting = asyncio.create_task(alice.get(path))
        assert (await bob.get(path)).status_code in {200, 404}
        assert not waiting.done()
    assert (await waiting).status_code == 200
