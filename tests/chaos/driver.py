"""The driver: simulated users who create, edit, pause, execute, cancel and delete jobs."""

import asyncio
import itertools
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.chaos.client import Client
from tests.chaos.evidence import JobDefinition
from tests.chaos.workload import Workload, choose_edit, make_body

_LONGEST_SECONDS = 180
"""The time within which a process responds again, whatever the fault."""
_CONCURRENCY = 8
_RACED_JOBS = 5
_USERS = 3
_REST_SECONDS = 1.2
"""Of each user, between two operations."""
USED_VERBS = {"create", "edit", "pause", "resume", "delete", "execute", "backfill", "cancel"}
"""The calls of the users."""
_POLICIES = ("allow_all", "allow_all", "skip", "buffer_all", "terminate_other")


@dataclass
class DrivenJob:
    """A job whose creation was acknowledged."""

    id: str
    definition: JobDefinition
    revision: int
    schedule_ids: dict[str, str]
    raced: bool
    """Only `race_edits` acts on it."""
    client: Client
    """That of its owner."""


@dataclass
class Driver:
    """Calls any of the service's processes, and tries another one if that does not respond."""

    client: Client
    hostile_client: Client
    """That of another user, who owns the jobs whose receivers misbehave."""
    receiver_url: str
    random: Random
    load: Workload
    jobs: dict[str, DrivenJob] = field(default_factory=dict)
    """By name."""
    _numbers: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(self.load.first_jobs)

    async def create_jobs(self) -> None:
        limit = asyncio.Semaphore(_CONCURRENCY)

        async def create(number: int) -> None:
            async with limit:
                await self._create(number)

        await asyncio.gather(*map(create, range(self.load.first_jobs)))

    async def use_until_cancelled(self) -> None:
        """Let a few users act on jobs of their own, each less than once a second."""
        await asyncio.gather(*map(self._use, range(_USERS)))

    async def wait_for_all_verbs(self) -> None:
        """Wait until a call of every kind was acknowledged. Raises TimeoutError."""
        async with asyncio.timeout(_LONGEST_SECONDS):
            while not self.client.acknowledged >= USED_VERBS:
                await asyncio.sleep(0.5)

    async def _use(self, user: int) -> None:
        operations: list[Callable[[str], Awaitable[object]]] = [
            *(self._execute,) * 4,
            *(self._cancel_any,) * 3,
            *(self._execute_and_cancel,) * 2,
            *(self._edit_schedules,) * 3,
            *(self._pause_and_resume,) * 2,
            self._backfill,
            self._replace,
        ]
        while True:
            for operation in self.random.sample(operations, len(operations)):
                await asyncio.sleep(_REST_SECONDS)
                own = [name for name, job in self.jobs.items() if _belongs_to(name, user, job)]
                name = self.random.choice(own)
                await operation(name)
                if name in self.jobs:
                    await self.jobs[name].client.read(name, self.jobs[name].id)

    async def _execute(self, name: str) -> str | None:
        """Execute a job and return the id of the execution, if it was acknowledged."""
        policy = self.random.choice(_POLICIES)
        path, body = f"/jobs/{self.jobs[name].id}/execute", {"overlap_policy": policy}
        done = await self.jobs[name].client.call(
            "execute", name, "POST", path, body=body, policy=policy
        )
        return None if done is None else str(done["id"])

    async def _execute_and_cancel(self, name: str) -> None:
        execution_id = await self._execute(name)
        if execution_id is not None:
            await asyncio.sleep(self.random.choice([0, 0, 0.5]))
            await self._cancel(name, execution_id)

    async def _cancel_any(self, name: str) -> None:
        """Cancel the newest execution of the job that is queued or running."""
        path, params = f"/jobs/{self.jobs[name].id}/executions", {"status": ["queued", "running"]}
        page = await self.jobs[name].client.get(path, params | {"limit": 1})
        if page is not None and page["items"]:
            await self._cancel(name, page["items"][0]["id"])

    async def _cancel(self, name: str, execution_id: str) -> None:
        path = f"/executions/{execution_id}/cancel"
        await self.jobs[name].client.call("cancel", name, "POST", path, execution_id=execution_id)

    async def _backfill(self, name: str) -> None:
        end = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=2)
        start, policy = end - timedelta(seconds=8), self.random.choice(["buffer_all", "allow_all"])
        body = {"start": start.isoformat(), "end": end.isoformat(), "overlap_policy": policy}
        facts: dict[str, Any] = {"start": start, "end": end, "policy": policy}
        path = f"/jobs/{self.jobs[name].id}/backfill"
        await self.jobs[name].client.call("backfill", name, "POST", path, body=body, **facts)

    async def _pause_and_resume(self, name: str) -> None:
        path = f"/jobs/{self.jobs[name].id}"
        await self._repeat("pause", name, "POST", f"{path}/deactivate")
        await asyncio.sleep(self.random.choice([0, 1, 3]))
        await self._repeat("resume", name, "POST", f"{path}/activate")

    async def _edit_schedules(self, name: str) -> None:
        """Edit a job so that it is due at other times."""
        job, number = self.jobs[name], next(self._numbers)
        changed = choose_edit(job.definition, self.random, number, datetime.now(UTC))
        whole = make_body(name, changed, url=self.receiver_url, ids=job.schedule_ids)
        body = {key: whole[key] for key in ("description", "schedules")}
        facts: dict[str, Any] = {"definition": changed, "description": changed.description}
        content = await self._repeat("edit", name, "PATCH", f"/jobs/{job.id}", body=body, **facts)
        job.definition, job.schedule_ids = changed, _pair_ids(changed, content)

    async def _repeat(self, verb: str, name: str, method: str, path: str, **call: Any) -> Any:
        """Repeat a call until it is acknowledged.

        It carries the revision, so that none of the repetitions has an effect after the
        acknowledged one, however late a frozen process handles it.
        """
        job = self.jobs[name]
        ends_at = time.monotonic() + _LONGEST_SECONDS
        while time.monotonic() < ends_at:
            done = await job.client.call(verb, name, method, path, if_revision=job.revision, **call)
            if done is not None:
                job.revision = done["revision"]
                return done
            await asyncio.sleep(0.2)
            content = await job.client.read(name, job.id)
            if content is not None:
                job.revision = content["revision"]
        raise TimeoutError(f"{name}: no {verb} was acknowledged.")

    async def _replace(self, name: str) -> None:
        """Delete a job and create another one."""
        job = self.jobs.pop(name)
        await job.client.call("delete", name, "DELETE", f"/jobs/{job.id}")
        await job.client.read(name, job.id)
        await self._create(next(self._numbers))

    async def _create(self, number: int) -> None:
        """Try until a creation is acknowledged. Each try uses another name."""
        client = self.hostile_client if self.load.is_hostile(number) else self.client
        ends_at = time.monotonic() + _LONGEST_SECONDS
        for attempt in itertools.takewhile(lambda _: time.monotonic() < ends_at, itertools.count()):
            name, job = f"job {number}.{attempt}", self.load.define(number, datetime.now(UTC))
            body = make_body(name, job, url=self.receiver_url)
            facts: dict[str, Any] = {"definition": job, "description": job.description}
            content = await client.call("create", name, "POST", "/jobs", body=body, **facts)
            if content is not None:
                ids = _pair_ids(job, content)
                raced = number < _RACED_JOBS
                self.jobs[name] = DrivenJob(
                    content["id"], job, content["revision"], ids, raced, client
                )
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"Job {number} could not be created.")

    async def race_edits(self, edits: int) -> None:
        """Edit a few jobs from many concurrent clients while their slots fire."""
        raced = sorted(name for name, job in self.jobs.items() if job.raced)
        numbers = iter(range(edits))
        await asyncio.gather(*(self._edit(raced, numbers) for _ in range(_CONCURRENCY)))

    async def _edit(self, raced: list[str], numbers: Iterator[int]) -> None:
        """Edit the jobs in turn. Every second edit has an `If-Match` header, and every fifth sends
        the present schedules."""
        for number in numbers:
            name = raced[number % len(raced)]
            job, revision = self.jobs[name], None
            if number % 2:
                content = await job.client.read(name, job.id)
                if content is None:
                    continue
                revision = content["revision"]
            body: dict[str, Any] = {"description": f"race {number}"}
            if number % 5 == 0:
                ids = job.schedule_ids
                whole = make_body(name, job.definition, url=self.receiver_url, ids=ids)
                body["schedules"] = whole["schedules"]
            facts = {"if_revision": revision, "description": body["description"]}
            path = f"/jobs/{job.id}"
            await job.client.call("edit", name, "PATCH", path, body=body, **facts)

    async def pause_all(self) -> None:
        """Pause all jobs, also those whose creation, resume or deletion had no response."""
        await asyncio.gather(*map(_pause_all, (self.client, self.hostile_client)))


async def _pause_all(client: Client) -> None:
    """Pause all jobs of a user."""
    ends_at = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < ends_at:
        active = await _list_active(client)
        if active == []:
            return
        if active is None:
            await asyncio.sleep(0.5)
            continue
        for job in active:
            await client.call("pause", job["name"], "POST", f"/jobs/{job['id']}/deactivate")
    raise TimeoutError("The jobs could not be paused.")


async def _list_active(client: Client) -> list[dict[str, Any]] | None:
    jobs: list[dict[str, Any]] = []
    params: dict[str, Any] = {"active": "true", "limit": 200}
    while True:
        page = await client.get("/jobs", params)
        if page is None:
            return None
        jobs += page["items"]
        if page["next_cursor"] is None:
            return jobs
        params["cursor"] = page["next_cursor"]


def _belongs_to(name: str, user: int, job: DrivenJob) -> bool:
    return not job.raced and zlib.crc32(name.encode()) % _USERS == user


def _pair_ids(job: JobDefinition, content: dict[str, Any]) -> dict[str, str]:
    pairs = zip(job.schedules, content["schedules"], strict=True)
    return {one.key: stored["id"] for one, stored in pairs}
