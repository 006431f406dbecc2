"""A client of the API that writes every call and every read to the journal."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Any, Self

import httpx2

from tests.chaos.evidence import JobDefinition, Result
from tests.chaos.journal import Journal
from tests.chaos.limits import RESPONSE_SECONDS
from tests.chaos.servers import ServiceProcess
from tests.support.service import PASSWORD, USERNAME

_CALL_SECONDS = RESPONSE_SECONDS + 2
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout)


class Client:
    """Calls any of the service's processes.

    It signs in at each process separately, because a process with a wrong clock rejects the tokens
    of the others.
    """

    def __init__(
        self,
        *,
        processes: Sequence[ServiceProcess],
        journal: Journal,
        random: Random,
        username: str = USERNAME,
    ) -> None:
        self._username = username
        self._processes = processes
        self._journal = journal
        self._random = random
        self._tokens: dict[str, str] = {}
        self._signing_in = asyncio.Lock()  # the service accepts only two sign-ins at once
        self.acknowledged: set[str] = set()
        """The verbs of the calls that were acknowledged."""

    async def __aenter__(self) -> Self:
        self._http = httpx2.AsyncClient(timeout=_CALL_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def is_ready(self, url: str) -> bool:
        try:
            return (await self._http.get(f"{url}/health/ready")).is_success
        except httpx2.TransportError:
            return False

    async def call(
        self,
        verb: str,
        job: str,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        if_revision: int | None = None,
        **facts: Any,
    ) -> Any:
        """Return the response's JSON (or True), or None if the call was not acknowledged.

        Writes the call with the facts to the journal, even if it is cancelled, because it may have
        had an effect. After a 401 signs in and calls once more.
        """
        for _ in range(2):
            process = self._random.choice(self._processes)
            line: dict[str, Any] = {"pid": process.pid, "if_revision": if_revision, **facts}
            result, content = Result.UNKNOWN, None
            sent_at = time.time()
            try:
                headers = await self._sign_in(process)
                sent_at = time.time()
                if if_revision is not None:
                    headers["If-Match"] = f'"{if_revision}-0"'
                response = await self._http.request(
                    method, f"{process.url}{path}", json=body, headers=headers
                )
                line["status"] = response.status_code
                if response.is_success:
                    result, content = Result.OK, response.json() if response.content else True
                    self.acknowledged.add(verb)
                elif response.status_code < 500:
                    result = Result.FAILED
            except _NEVER_SENT as error:
                result, line["error"] = Result.FAILED, type(error).__name__
            except httpx2.TransportError as error:
                line["error"] = type(error).__name__
            finally:
                line |= _describe(verb, content, facts.get("definition"))
                instants = {"sent_at": sent_at, "ended_at": time.time()}
                self._journal.write("call", verb=verb, job=job, result=result, **instants, **line)
            if line.get("status") != 401:
                break
            self._tokens.pop(process.url, None)
        return content

    async def read(self, job: str, job_id: str) -> dict[str, Any] | None:
        """Return the job, or None if it was not found or there was no response."""
        process = self._random.choice(self._processes)
        pid, sent_at = process.pid, time.time()
        response = await self._get(process, f"/jobs/{job_id}")
        if response is None or response.status_code not in {200, 404}:
            return None
        content: dict[str, Any] | None = response.json() if response.is_success else None
        line: dict[str, Any] = {"status": response.status_code}
        if content is not None:
            line |= {name: content[name] for name in ("revision", "description", "active")}
            line |= {name: _parse(content[name]) for name in ("last_run", "next_run")}
        instants = {"sent_at": sent_at, "ended_at": time.time()}
        self._journal.write("read", job=job, pid=pid, **instants, **line)
        return content

    async def get(self, path: str, params: dict[str, Any]) -> Any:
        """Return the JSON of any process, or None if there was no such response."""
        response = await self._get(self._random.choice(self._processes), path, params)
        return response.json() if response is not None and response.is_success else None

    async def _get(
        self, process: ServiceProcess, path: str, params: dict[str, Any] | None = None
    ) -> httpx2.Response | None:
        try:
            headers = await self._sign_in(process)
            response = await self._http.get(f"{process.url}{path}", params=params, headers=headers)
        except httpx2.TransportError:
            return None
        if response.status_code == 401:
            self._tokens.pop(process.url, None)
        return response

    async def _sign_in(self, process: ServiceProcess) -> dict[str, str]:
        """Return the header with a token of this process. Raises httpx2.ConnectError if it did not
        give one, because then nothing else is sent."""
        if process.url not in self._tokens:
            async with self._signing_in:
                if process.url not in self._tokens:
                    self._tokens[process.url] = await self._request_token(process)
        return {"Authorization": f"Bearer {self._tokens[process.url]}"}

    async def _request_token(self, process: ServiceProcess) -> str:
        try:
            response = await self._http.post(
                f"{process.url}/token", data={"username": self._username, "password": PASSWORD}
            )
        except httpx2.TransportError as error:
            raise httpx2.ConnectError(f"no token: {type(error).__name__}") from error
        if not response.is_success:
            raise httpx2.ConnectError(f"no token: {response.status_code}")
        token: str = response.json()["access_token"]
        return token


def _parse(instant: str | None) -> datetime | None:
    return None if instant is None else datetime.fromisoformat(instant)


def _describe(verb: str, content: Any, definition: JobDefinition | None) -> dict[str, Any]:
    """Return what a response says about the job or the execution."""
    if not isinstance(content, dict):
        return {}
    match verb:
        case "execute":
            return {"execution_id": content["id"]}
        case "backfill":
            return {"backfill_id": content["backfill_id"], "count": content["count"]}
        case "cancel":
            return {}
    facts: dict[str, Any] = {"revision": content["revision"]}
    if verb == "create":
        facts["job_id"] = content["id"]
    if definition is not None:
        pairs = zip(definition.schedules, content["schedules"], strict=True)
        facts["schedule_ids"] = {one.key: stored["id"] for one, stored in pairs}
    return facts
