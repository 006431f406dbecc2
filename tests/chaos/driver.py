"""The driver: a user of the API under load who notes every call and what became of it."""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from tests.chaos.evidence import Result
from tests.chaos.journal import Journal
from tests.support.service import PASSWORD, USERNAME

_CALL_SECONDS = 12
"""The service answers within 10 s, whatever fails."""
_MOST_TRIES = 60
_AT_ONCE = 8
_FEW = 5
_OPERATIONS = ("run",) * 6 + ("pause",) * 2 + ("delete",)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is due."""

    jobs: int = 100
    period: int = 2
    """Seconds."""
    all_at: datetime | None = None
    """One slot of every job at this instant; None: the slots are spread over the period."""
    paths: Sequence[str] = ()
    """Of the receiver: jobs beside the others, two for each."""


@dataclass
class Driver:
    """Calls any of the service's processes, and tries another one if that does not answer."""

    urls: list[str]
    receiver_url: str
    journal: Journal
    random: random.Random
    load: Load
    ids: dict[str, str] = field(default_factory=dict)
    """Of the jobs whose creation was acknowledged, by name."""

    async def __aenter__(self) -> "Driver":
        self._client = httpx2.AsyncClient(timeout=_CALL_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def leave(self, url: str) -> None:
        """Call this process no more."""
        self.urls.remove(url)

    def come_back(self, url: str) -> None:
        self.urls.append(url)

    async def sign_in(self) -> None:
        """Wait until somebody answers. All processes share the key that signs tokens."""
        for _ in range(10 * _MOST_TRIES):
            try:
                answer = await self._client.post(
                    f"{self.random.choice(self.urls)}/token",
                    data={"username": USERNAME, "password": PASSWORD},
                )
            except httpx2.TransportError:
                await asyncio.sleep(0.1)
                continue
            if answer.is_success:
                token = answer.json()["access_token"]
                self._client.headers["Authorization"] = f"Bearer {token}"
                return
            await asyncio.sleep(0.1)
        raise TimeoutError("Nobody can sign in.")

    async def finds_ready(self, url: str) -> bool:
        try:
            return (await self._client.get(f"{url}/health/ready")).is_success
        except httpx2.TransportError:
            return False

    async def create_jobs(self) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            async with gate:
                await self._create(number)

        count = self.load.jobs + 2 * len(self.load.paths)
        await asyncio.gather(*(one(number) for number in range(count)))

    async def disturb(self) -> None:
        """Use the API, about two calls a second, until cancelled."""
        number = self.load.jobs + 2 * len(self.load.paths)
        while True:
            await asyncio.sleep(0.5)
            name = self.random.choice(sorted(self.ids))
            match self.random.choice(_OPERATIONS):
                case "run":
                    await self._call("run", name, "POST", f"/jobs/{self.ids[name]}/execute")
                case "pause":
                    await self._until_ok("pause", name, "deactivate")
                    await self._until_ok("resume", name, "activate")
                case _:
                    id_ = self.ids.pop(name)
                    await self._call("delete", name, "DELETE", f"/jobs/{id_}")
                    await self._create(number)
                    number += 1

    async def race(self, edits: int) -> None:
        """Edit a few jobs, many at once, while others use them and their slots fire."""
        numbers = iter(range(edits))
        await asyncio.gather(*(self._edit(numbers) for _ in range(_AT_ONCE)))

    async def _edit(self, numbers: Iterator[int]) -> None:
        """Half of the edits are meant for one revision only."""
        for number in numbers:
            name = sorted(self.ids)[number % _FEW]
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
        """Also those whose creation, resume or deletion had no answer."""
        for _ in range(_MOST_TRIES):
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
                answer = await self._client.get(
                    f"{self.random.choice(self.urls)}/jobs", params=params
                )
            except httpx2.TransportError:
                return None
            if not answer.is_success:
                return None
            page = answer.json()
            jobs += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return jobs

    async def _create(self, number: int) -> None:
        """Try until one creation is acknowledged; each try has a name of its own."""
        for attempt in range(_MOST_TRIES):
            name = f"job {number}.{attempt}"
            start_at = self._start_at(number)
            facts = {"start_at": start_at.isoformat(), "period": self._period}
            job = await self._call(
                "create", name, "POST", "/jobs", self._job(name, start_at, number), facts
            )
            if job is not None:
                self.ids[name] = job["id"]
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"Job {number} could not be created.")

    @property
    def _period(self) -> int:
        return self.load.period if self.load.all_at is None else 86_400

    def _start_at(self, number: int) -> datetime:
        """A past start is only an anchor: it spreads the slots evenly."""
        if self.load.all_at is not None:
            return self.load.all_at
        now = datetime.now(UTC).replace(microsecond=0)
        part = (number % self.load.jobs) / self.load.jobs
        offset = timedelta(milliseconds=int(1000 * self.load.period * part))
        return now - timedelta(hours=1) + offset

    def _job(self, name: str, start_at: datetime, number: int) -> dict[str, Any]:
        beside = number - self.load.jobs
        path = self.load.paths[beside // 2] if 0 <= beside < 2 * len(self.load.paths) else ""
        return {
            "name": name,
            "target": {"type": "http", "url": f"{self.receiver_url}/{path}"},
            "timeout_seconds": 5,
            "overlap_policy": "allow_all" if name.endswith(("3.0", "7.0")) else "skip",
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

    async def _until_ok(self, verb: str, name: str, path: str) -> None:
        for _ in range(_MOST_TRIES):
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
        """The answer's JSON (or True), noted in the journal; None if it was not acknowledged.

        A call that is cancelled is noted too: it may have been done.
        """
        result, content = Result.UNKNOWN, None
        facts = dict(facts or {})
        url = self.random.choice(self.urls)
        sent_at = time.time()
        try:
            answer = await self._client.request(method, f"{url}{path}", json=body, headers=headers)
            facts["status"] = answer.status_code
            if answer.is_success:
                result = Result.OK
                content = answer.json() if answer.content else True
            elif answer.status_code < 500:
                result = Result.FAILED
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            result = Result.FAILED
        except httpx2.TransportError as error:
            facts["error"] = type(error).__name__
        finally:
            if verb == "run" and isinstance(content, dict):
                facts["execution_id"] = content["id"]
            if verb == "edit" and isinstance(content, dict):
                facts["revision"] = content["revision"]
            self.journal.write(
                "call",
                verb=verb,
                job=name,
                result=result,
                sent_at=sent_at,
                answered_at=time.time(),
                **facts,
            )
        return content
