"""The API on real stores, with a clock that tests move and users who are signed in already."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

import httpx2
from fastapi import FastAPI
from redis.asyncio import Redis

from app.cache import Cache
from app.engine.engine import Engine
from app.main import create_app
from app.models.execution import Execution
from app.models.ids import uuid7
from app.models.job import Job
from app.models.user import Role, User
from app.repositories.executions import ExecutionFilter, ExecutionRepository
from app.repositories.idempotency_keys import IdempotencyKeyRepository
from app.repositories.indexes import create_indexes
from app.repositories.jobs import JobRepository
from app.repositories.mongo import Database, open_client
from app.repositories.overlaps import OverlapRepository
from app.repositories.users import UserRepository
from app.runtime import Runtime
from app.security import TokenKey, hash_password, issue_token
from app.services.admission import Admission
from app.services.auth import AuthService
from app.services.backfills import BackfillService
from app.services.cached_jobs import CachedJobs
from app.services.executions import ExecutionService
from app.services.firing import Firing
from app.services.forecasts import ForecastService
from app.services.health import HealthService, LoopProbe
from app.services.idempotency import IdempotencyService
from app.services.jobs import JobService
from app.services.schedules import ScheduleService
from app.settings import Settings
from app.wake import Wake
from tests.support.clock import ManualClock

SECRET = b"a secret key of the tests, 32 bytes or more"
PASSWORD = "correct horse battery"
LIFETIME = timedelta(hours=1)
MAX_BODY_BYTES = 100_000

JsonBody = dict[str, Any]


@lru_cache(maxsize=1)
def password_hash() -> str:
    return hash_password(PASSWORD)


@dataclass
class Api:
    """One running API: its app, its parts, and a client for each user."""

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
    """Users' ids by name."""

    def new_id(self) -> str:
        return new_id(self.clock)

    def client(self, username: str | None = None, **headers: str) -> httpx2.AsyncClient:
        """A client of a user that `add_user` has stored; of nobody without a name."""
        if username is not None:
            headers["Authorization"] = f"Bearer {self.token(username)}"
        transport = httpx2.ASGITransport(app=self.app, raise_app_exceptions=False)
        return httpx2.AsyncClient(
            transport=transport, base_url="http://carillon.test", headers=headers
        )

    def token(self, username: str) -> str:
        return issue_token(
            TokenKey(SECRET, "HS256"),
            user_id=self.ids[username],
            token_id=self.new_id(),
            now=self.clock.now(),
            lifetime=LIFETIME,
        )

    async def add_user(self, username: str, role: Role = Role.EDITOR, **changes: Any) -> User:
        now = self.clock.now()
        fields = {
            "id": self.new_id(),
            "username": username,
            "password_hash": password_hash(),
            "role": role,
            "tokens_valid_from": now,
            "created_at": now,
            "updated_at": now,
        }
        user = User(**(fields | changes))
        assert await self.users.insert(user)
        self.ids[username] = user.id
        return user

    async def stored(self, job: JsonBody) -> Job:
        return await self.jobs.get(job["id"], owner_id=None)

    async def history(self, job: JsonBody) -> list[Execution]:
        found = await self.executions.list_executions(
            ExecutionFilter(job_id=job["id"]), limit=1_000
        )
        return list(reversed(found))


def new_id(clock: ManualClock) -> str:
    return uuid7(int(clock.now().timestamp() * 1000), secrets.token_bytes(10))


@asynccontextmanager
async def open_api(
    mongo_uri: str, database_name: str, redis_url: str, *, loops: tuple[LoopProbe, ...] = ()
) -> AsyncIterator[Api]:
    """The API over these stores, with the users `admin`, `alice`, `bob` and `viewer`."""
    clock = ManualClock()
    client = open_client(mongo_uri, timeout=timedelta(seconds=8))
    database = Database(client, database_name, clock=clock)
    await create_indexes(database)
    redis = Redis.from_url(redis_url)
    api = _compose(database, redis, clock, loops)
    for username, role in (
        ("admin", Role.ADMIN),
        ("alice", Role.EDITOR),
        ("bob", Role.EDITOR),
        ("viewer", Role.VIEWER),
    ):
        await api.add_user(username, role)
    try:
        yield api
    finally:
        api.runtime.auth.close()
        await redis.aclose()
        await database.close()


def _compose(
    database: Database, redis: Redis, clock: ManualClock, loops: tuple[LoopProbe, ...]
) -> Api:
    jobs, executions = JobRepository(database), ExecutionRepository(database)
    users, wake = UserRepository(database), Wake(None)
    cache = Cache(redis, ttl=timedelta(seconds=60), clock=clock)

    def mint() -> str:
        return new_id(clock)

    admission = Admission(executions=executions, overlaps=OverlapRepository(database))
    firing = Firing(
        jobs=jobs,
        executions=executions,
        admission=admission,
        wake=wake,
        clock=clock,
        new_id=mint,
    )
    job_service = JobService(
        jobs=jobs, executions=executions, firing=firing, cache=cache, wake=wake, new_id=mint
    )
    runtime = Runtime(
        settings=Settings(_env_file=None, max_body_bytes=MAX_BODY_BYTES),
        clock=clock,
        auth=AuthService(
            users=users,
            clock=clock,
            new_id=mint,
            secret_key=SECRET,
            algorithm="HS256",
            token_lifetime=LIFETIME,
        ),
        jobs=job_service,
        cached_jobs=CachedJobs(jobs=job_service, cache=cache),
        schedules=ScheduleService(jobs=job_service, stored_jobs=jobs, new_id=mint),
        forecasts=ForecastService(
            jobs=job_service, stored_jobs=jobs, executions=executions, new_id=mint
        ),
        executions=ExecutionService(
            executions=executions, jobs=jobs, admission=admission, wake=wake, new_id=mint
        ),
        backfills=BackfillService(
            jobs=jobs, executions=executions, admission=admission, wake=wake, new_id=mint
        ),
        idempotency=IdempotencyService(keys=IdempotencyKeyRepository(database), new_id=mint),
        health=HealthService(database=database, cache=cache, loops=loops),
        first_admin=None,
        engine=Engine(wake=wake),
    )
    app = create_app()
    app.state.runtime = runtime
    return Api(app, database, redis, clock, runtime, jobs, executions, users, wake)


def assert_problem(answer: httpx2.Response, status: int) -> JsonBody:
    """The answer is a problem of this status, complete and of the right type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: JsonBody = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:carillon:problem:")
    assert body["title"]
    assert body["detail"]
    assert body["instance"].startswith("/")
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def assert_names(answer: httpx2.Response, pointer: str) -> None:
    """The answer is a 422 that names the field."""
    body = assert_problem(answer, 422)
    assert pointer in [error["pointer"] for error in body["errors"]], body["errors"]
