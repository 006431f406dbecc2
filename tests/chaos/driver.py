"""The driver: uses the API under load and writes every call and its result to the journal."""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from tests.chaos.evidence import JobDefinition, Result, ScheduleDefinition
from tests.chaos.journal import Journal
from tests.chaos.limits import RESPONSE_SECONDS
from tests.support.service import PASSWORD, USERNAME

_CALL_SECONDS = RESPONSE_SECONDS + 2
_MAX_TRIES = 60
_CONCURRENCY = 8
_EDITED_JOBS = 5
_OPERATIONS = ("execute",) * 6 + ("pause",) * 2 + ("delete",)


@dataclass(frozen=True, kw_only=True)
class Load:
    """Which jobs are created, and when their slots are due."""

    jobs: int = 100
    period: int = 2
    """Seconds."""
    all_at: datetime | None = None
    """One slot of every job at this instant; None: the slots are spread over the period."""
    paths: Sequence[str] = ()
    """Paths of the receiver. Two more jobs are created for each."""


@dataclass
class Driver:
    """Calls any of the service's processes, and tries another one if that does not respond."""

    urls: list[str]
    receiver_url: str
    journal: Journal
    random: random.Random
    load: Load
    ids: dict[str, str] = field(default_factory=dict)
    """Ids of the jobs whose creation was acknowledged, by name."""

    async def __aenter__(self) -> "Driver":
        self._client = httpx2.AsyncClient(timeout=_CALL_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def exclude(self, url: str) -> None:
        """Send no more calls to this process."""
        self.urls.remove(url)

    def include(self, url: str) -> None:
        self.urls.append(url)

    async def sign_in(self) -> None:
        """Sign in at the first process that responds.

        The token is valid at all processes, because they share the key.
        """
        for _ in range(10 * _MAX_TRIES):
            try:
                response = await self._client.post(
                    f"{self.random.choice(self.urls)}/token",
                    data={"username": USERNAME, "password": PASSWORD},
                )
            except httpx2.TransportError:
                await asyncio.sleep(0.1)
                continue
            if response.is_success:
                token = response.json()["access_token"]
                self._client.headers["Authorization"] = f"Bearer {token}"
                return
            await asyncio.sleep(0.1)
        raise TimeoutError("No process accepts the sign-in.")

    async def is_ready(self, url: str) -> bool:
        try:
            return (await self._client.get(f"{url}/health/ready")).is_success
        except httpx2.TransportError:
            return False

    async def create_jobs(self) -> None:
        limit = asyncio.Semaphore(_CONCURRENCY)

        async def create(number: int) -> None:
            async with limit:
                await self._create(number)

        count = self.load.jobs + 2 * len(self.load.paths)
        await asyncio.gather(*(create(number) for number in range(count)))

    async def call_api_until_cancelled(self) -> None:
        """Execute, pause, resume, delete and create jobs: about two calls per second."""
        number = self.load.jobs + 2 * len(self.load.paths)
        while True:
            await asyncio.sleep(0.5)
            name = self.random.choice(sorted(self.ids))
            match self.random.choice(_OPERATIONS):
                case "execute":
                    await self._call("execute", name, "POST", f"/jobs/{self.ids[name]}/execute")
                case "pause":
                    await self._repeat_until_acknowledged("pause", name, "deactivate")
                    await self._repeat_until_acknowledged("resume", name, "activate")
                case _:
                    job_id = self.ids.pop(name)
                    await self._call("delete", name, "DELETE", f"/jobs/{job_id}")
                    await self._create(number)
                    number += 1

    async def race_edits(self, edits: int) -> None:
        """Edit a few jobs from many concurrent clients while their slots fire."""
        numbers = iter(range(edits))
        await asyncio.gather(*(self._edit(numbers) for _ in range(_CONCURRENCY)))

    async def _edit(self, numbers: Iterator[int]) -> None:
        """Edit a few jobs in turn. Every second edit has an `If-Match` header."""
        for number in numbers:
            name = sorted(self.ids)[number % _EDITED_JOBS]
            path = f"/jobs/{self.ids[name]}"
            headers = {}
            if number % 2:
                try:
                    read = await self._client.get(self.random.choice(self.urls) + path)
                except httpx2.TransportError:
                    continue
                headers = {"If-Match": read.headers.get("ETag", "*")}
            body: dict[str, Any] = {"description": f"edit {number}"}
            if number % 5 == 0:
                body |= {"schedule_config": {"seconds": self._period}}
            await self._call("edit", name, "PATCH", path, body, headers=headers)

    async def pause_all(self) -> None:
        """Pause all jobs, also those whose creation, resume or deletion had no response."""
        for _ in range(_MAX_TRIES):
            active = await self._list_active()
            if active == []:
                return
            if active is None:
                await asyncio.sleep(0.5)
                continue
            for job in active:
                await self._call("pause", job["name"], "POST", f"/jobs/{job['id']}/deactivate")
        raise TimeoutError("The jobs could not be paused.")

    async def _list_active(self) -> list[dict[str, Any]] | None:
        jobs: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            params: dict[str, Any] = {"active": "true", "limit": 200}
            if cursor is not None:
                params["cursor"] = cursor
            try:
                response = await self._client.get(
                    f"{self.random.choice(self.urls)}/jobs", params=params
                )
            except httpx2.TransportError:
                return None
            if not response.is_success:
                return None
            page = response.json()
            jobs += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return jobs

    async def _create(self, number: int) -> None:
        """Try until a creation is acknowledged. Each try uses another name."""
        for attempt in range(_MAX_TRIES):
            name = f"job {number}.{attempt}"
            start_at = self._choose_start(number)
            schedule = ScheduleDefinition(anchor=start_at, period=timedelta(seconds=self._period))
            facts = {"definition": JobDefinition(schedules=(schedule,))}
            job = await self._call(
                "create", name, "POST", "/jobs", self._make_job(name, start_at, number), facts
            )
            if job is not None:
                self.ids[name] = job["id"]
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"Job {number} could not be created.")

    @property
    def _period(self) -> int:
        return self.load.period if self.load.all_at is None else 86_400

    def _choose_start(self, number: int) -> datetime:
        """Return the anchor of a job's interval. The anchors spread all slots evenly."""
        if self.load.all_at is not None:
            return self.load.all_at
        now = datetime.now(UTC).replace(microsecond=0)
        share = (number % self.load.jobs) / self.load.jobs
        offset = timedelta(milliseconds=int(1000 * self.load.period * share))
        # The anchor is in the past, so that the first slot is due within one period.
        return now - timedelta(hours=1) + offset

    def _make_job(self, name: str, start_at: datetime, number: int) -> dict[str, Any]:
        extra = number - self.load.jobs
        path = self.load.paths[extra // 2] if 0 <= extra < 2 * len(self.load.paths) else ""
        return {
            "name": name,
            "target": {"type": "http", "url": f"{self.receiver_url}/{path}"},
            "timeout_seconds": 5,
            # The executions of two in ten jobs may overlap.
            "overlap_policy": "allow_all" if number % 10 in {3, 7} else "skip",
            "catch_up": {"policy": "all", "window_seconds": 3600},
            "retry": {"max_attempts": 3 if path else 10, "strategy": "fixed", "delay_seconds": 0.3},
            "schedules": [
                {
                    "type": "interval",
                    "interval_seconds": self._period,
                    "start_at": start_at.isoformat(),
                }
            ],
        }

    async def _repeat_until_acknowledged(self, verb: str, name: str, path: str) -> None:
        for _ in range(_MAX_TRIES):
            done = await self._call(verb, name, "POST", f"/jobs/{self.ids[name]}/{path}")
            if done is not None:
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"{name}: no {verb} was acknowledged.")

    async def _call(
        self,
        verb: str,
        name: str,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        facts: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Return the response's JSON (or True), or None if the call was not acknowledged.

        Writes the call to the journal, even if it is cancelled, because it may have had an effect.
        """
        result, content = Result.UNKNOWN, None
        facts = dict(facts or {})
        url = self.random.choice(self.urls)
        sent_at = time.time()
        try:
            response = await self._client.request(
                method, f"{url}{path}", json=body, headers=headers
            )
            facts["status"] = response.status_code
            if response.is_success:
                result = Result.OK
                content = response.json() if response.content else True
            elif response.status_code < 500:
                result = Result.FAILED
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            result = Result.FAILED
        except httpx2.TransportError as error:
            facts["error"] = type(error).__name__
        finally:
            if verb == "execute" and isinstance(content, dict):
                facts["execution_id"] = content["id"]
            if verb == "edit" and isinstance(content, dict):
                facts["revision"] = content["revision"]
            self.journal.write(
                "call",
                verb=verb,
                job=name,
                result=result,
                sent_at=sent_at,
                ended_at=time.time(),
                **facts,
            )
        return content
