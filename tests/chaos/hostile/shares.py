"""Owners who take every slot: many executions with long timeouts, to a receiver that is silent."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx2

from tests.chaos.hostile.calls import create_job

EXECUTIONS = 120
"""Of each owner: more than the slots of a process (`WORKER_CONCURRENCY` is 100)."""

_TIMEOUT_SECONDS = 3_600
"""The longest that the service accepts: the default of `MAX_TIMEOUT_SECONDS`."""

_AT_ONCE = 8


@asynccontextmanager
async def take_every_slot(
    attackers: Sequence[httpx2.AsyncClient], silent_url: str, *, executions: int = EXECUTIONS
) -> AsyncIterator[list[str]]:
    """Queue `executions` executions for each attacker, a client that has signed in as a user of its
    own. Yields the ids of the jobs, and deletes these at the end.

    `silent_url` is that of a receiver on this machine which accepts requests and never responds.
    """
    target = {"type": "http", "url": silent_url}
    jobs = [
        await create_job(client, target=target, timeout_seconds=_TIMEOUT_SECONDS)
        for client in attackers
    ]
    try:
        for client, job_id in zip(attackers, jobs, strict=True):
            await _execute(client, job_id, executions)
        yield jobs
    finally:
        for client, job_id in zip(attackers, jobs, strict=True):
            await client.delete(f"/jobs/{job_id}")


async def _execute(client: httpx2.AsyncClient, job_id: str, count: int) -> None:
    lanes = asyncio.Semaphore(_AT_ONCE)

    async def execute() -> None:
        async with lanes:
            # A refusal, for example by a limit of the owner, is part of the attack.
            await client.post(f"/jobs/{job_id}/execute")

    await asyncio.gather(*(execute() for _ in range(count)))
