"""The API on real stores, with a manual clock and clients of users who are signed in."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

import httpx2
from fastapi import FastAPI
from redis.asyncio import Redis

from app import security
from app.main import create_app
from app.models.execution import Execution
from app.models.job import Job
from app.models.user import Role, User
from app.repositories.execution_listings import ExecutionFilter
from app.repositories.executions import ExecutionRepository
from app.repositories.indexes import create_indexes
from app.repositories.jobs import JobRepository
from app.repositories.mongo import Database, open_client
from app.repositories.users import UserRepository
from app.runtime import Resources, Runtime, compose
from app.security import TokenKey, hash_password
from app.services.health import LoopProbe
from app.settings import Settings
from app.wake import Wake
from tests.support.clock import ManualClock
from tests.support.ids import make_id
from tests.support.listings import list_all_executions
from tests.support.service import PASSWORD

SECRET = b"a secret key of the tests, 32 bytes or more"
LIFETIME = timedelta(hours=1)
MAX_REQUEST_BYTES = 100_000
UNKNOWN_ID = "0" * 32

JsonBody = dict[str, Any]


@lru_cache(maxsize=1)
def make_password_hash() -> str:
    return hash_password(PASSWORD)


@dataclass
class Api:
    """One running API: its app, its parts, and clients of its users."""

    app: FastAPI
    database: Database
    redis: Redis
    clock: ManualClock
    runtime: Runtime
    jobs: JobRepository
    executions: ExecutionRepository
    users: UserRepository
    wake: Wake
    ids: dict[str, str] = field(default_factory=dict)
    """The ids of the users by name."""

    def open_client(self, username: str | None = None, **headers: str) -> httpx2.AsyncClient:
        """Return a client of a user that `add_user` has stored, or one that is not signed in."""
        if username is not None:
            headers["Authorization"] = f"Bearer {self.issue_token(username)}"
        transport = httpx2.ASGITransport(app=self.app, raise_app_exceptions=False)
        return httpx2.AsyncClient(
            transport=transport, base_url="http://carillon.test", headers=headers
        )

    def issue_token(self, username: str) -> str:
        return security.issue_token(
            TokenKey(SECRET, "HS256"),
            user_id=self.ids[username],
            token_id=make_id(self.clock),
            now=self.clock.now(),
            lifetime=LIFETIME,
        )

    async def add_user(self, username: str, role: Role = Role.EDITOR, **changes: Any) -> User:
        now = self.clock.now()
        fields = {
            "id": make_id(self.clock),
            "username": username,
            "password_hash": make_password_hash(),
            "role": role,
            "tokens_valid_from": now,
            "created_at": now,
            "updated_at": now,
        }
        user = User(**(fields | changes))
        assert await self.users.insert(user)
        self.ids[username] = user.id
        return user

    async def read_job(self, job: JsonBody) -> Job:
        return await self.jobs.get(job["id"], owner_id=None)

    async def list_executions(self, job: JsonBody) -> list[Execution]:
        """Return the executions of a job, the oldest slot first."""
        return await list_all_executions(self.executions, ExecutionFilter(job_id=job["id"]))

    async def fire_due(self) -> None:
        """Fire all due jobs, as the scheduler does. The clock must not move meanwhile."""
        now = self.clock.now()
        while due := await self.jobs.list_due(now, limit=100):
            await self.runtime.firing.fire(due, now)


@asynccontextmanager
async def open_api(
    mongo_uri: str,
    database_name: str,
    redis_url: str,
    *,
    loops: tuple[LoopProbe, ...] = (),
    users: bool = True,
    max_body_bytes: int = MAX_REQUEST_BYTES,
) -> AsyncIterator[Api]:
    """Open the API on these stores, with the users `admin`, `alice`, `bob` and `viewer`.

    Without `users` it is another process on the stores of an open `Api`.
    """
    clock = ManualClock()
    client = open_client(mongo_uri, timeout=timedelta(seconds=8))
    database = Database(client, database_name, clock=clock)
    await create_indexes(database)
    redis = Redis.from_url(redis_url)
    api = _compose(database, redis, clock, loops, max_body_bytes)
    for username, role in (
        ("admin", Role.ADMIN),
        ("alice", Role.EDITOR),
        ("bob", Role.EDITOR),
        ("viewer", Role.VIEWER),
    ):
        if users:
            await api.add_user(username, role)
    try:
        yield api
    finally:
        api.runtime.auth.close()
        await redis.aclose()
        await database.close()


def _compose(
    database: Database,
    redis: Redis,
    clock: ManualClock,
    loops: tuple[LoopProbe, ...],
    max_body_bytes: int,
) -> Api:
    """Compose the service as in production, in the role `api`, with a manual clock."""
    settings = Settings(
        _env_file=None,
        role="api",
        max_body_bytes=max_body_bytes,
        access_token_expire_minutes=LIFETIME // timedelta(minutes=1),
    )
    resources = Resources(
        database=database,
        redis=redis,
        clock=clock,
        new_id=lambda: make_id(clock),
        lease_owner="api",
        secret_key=SECRET,
        randomness=random.Random(0),
    )
    runtime = compose(settings, resources)
    if loops:
        runtime.health.loops = loops
    app = create_app()
    app.state.runtime = runtime
    repositories = runtime.repositories
    return Api(
        app,
        database,
        redis,
        clock,
        runtime,
        jobs=repositories.jobs,
        executions=repositories.executions,
        users=repositories.users,
        wake=runtime.engine.wake,
    )


async def create_job(client: httpx2.AsyncClient, **body: Any) -> JsonBody:
    """Create a job by the API; its name is `a job` without another one."""
    response = await client.post("/jobs", json={"name": "a job", **body})
    assert response.status_code == 201, response.text
    job: JsonBody = response.json()
    return job


async def list_names(client: httpx2.AsyncClient, **query: Any) -> list[str]:
    """Return the names on the first page of the listing of jobs."""
    page = (await client.get("/jobs", params=query)).json()
    return [job["name"] for job in page["items"]]


def assert_problem(response: httpx2.Response, status: int) -> JsonBody:
    """Assert that the response is a complete problem document with this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: JsonBody = response.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:carillon:problem:")
    assert body["title"]
    assert body["detail"]
    assert body["instance"].startswith("/")
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def assert_names(response: httpx2.Response, pointer: str) -> None:
    """Assert that the response is a 422 whose errors name the field at this JSON pointer."""
    body = assert_problem(response, 422)
    assert pointer in [error["pointer"] for error in body["errors"]], body["errors"]
