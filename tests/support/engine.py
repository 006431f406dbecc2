"""The engine on a real database, with a manual clock and scripted targets."""

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from app.engine.invalidator import Invalidator
from app.engine.lease_keeper import LeaseKeeper
from app.engine.loop import AT_ONCE
from app.engine.reaper import Reaper
from app.engine.scheduler import Scheduler
from app.engine.worker import Worker
from app.models.execution import AttemptOutcome, Execution, ExecutionKind, ExecutionStatus
from app.models.job import Job, earliest_next_run
from app.models.outcome import Outcome
from app.models.schedule import IntervalSchedule, Schedule, first_slot
from app.models.target import LogTargetSpec
from app.repositories.execution_listings import ExecutionFilter
from app.repositories.heartbeat import HeartbeatRepository
from app.repositories.indexes import create_indexes
from app.repositories.leases import LeaseRepository
from app.repositories.mongo import Database, client_options, open_client
from app.runtime import Resources, Runtime, compose
from app.services.firing import Firing
from app.settings import Settings
from app.targets.target import Delivery
from app.wake import Wake
from tests.support.clock import ManualClock
from tests.support.ids import make_id
from tests.support.listings import list_all_executions

OpenClient = Callable[..., Any]
OWNER_ID = "owner"
LEASE = timedelta(seconds=10)
POLL_INTERVAL = timedelta(seconds=1)
SUCCEEDED = Outcome(AttemptOutcome.SUCCEEDED)


class ScriptedTargets:
    """Replaces all targets: records the deliveries and returns the outcomes that a test defines."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.outcome_of: Callable[[Delivery], Any] = lambda _: SUCCEEDED
        """Returns the outcome of a delivery, or an awaitable of it."""

    async def deliver(self, spec: object, delivery: Delivery) -> Outcome:
        self.deliveries.append(delivery)
        scripted = self.outcome_of(delivery)
        outcome: Outcome = await scripted if hasattr(scripted, "__await__") else scripted
        return outcome


@dataclass
class Process:
    """One process of the service, composed as in production. Tests call the rounds of its loops."""

    runtime: Runtime
    heartbeat: HeartbeatRepository

    @property
    def scheduler(self) -> Scheduler:
        return _require(self.runtime.engine.scheduler)

    @property
    def worker(self) -> Worker:
        return _require(self.runtime.engine.worker)

    @property
    def reaper(self) -> Reaper:
        return _require(self.runtime.engine.reaper)

    @property
    def keeper(self) -> LeaseKeeper:
        return _require(self.runtime.engine.keeper)

    @property
    def invalidator(self) -> Invalidator:
        return _require(self.runtime.engine.invalidator)

    @property
    def wake(self) -> Wake:
        return self.runtime.engine.wake

    @property
    def firing(self) -> Firing:
        return self.runtime.firing

    @property
    def leases(self) -> LeaseRepository:
        return self.runtime.repositories.leases

    async def work(self) -> None:
        """Tick the worker until nothing is claimable, and wait for the end of all attempts."""
        while await self.worker.tick() == AT_ONCE:
            await self.finish_attempts()

    async def finish_attempts(self) -> None:
        await self.worker.drain(timedelta(seconds=5))

    async def schedule(self) -> None:
        """Tick the scheduler until nothing is due."""
        while await self.scheduler.tick() == AT_ONCE:
            pass


@dataclass
class World:
    """One database, one clock, any number of processes."""

    database: Database
    clock: ManualClock
    uri: str
    name: str
    targets: ScriptedTargets = field(default_factory=ScriptedTargets)
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        # These parts belong to a process that serves only the API.
        self.api = compose(self._settings(role="api"), self._resources("api"))
        self.jobs = self.api.repositories.jobs
        self.executions = self.api.repositories.executions
        self.overlaps = self.api.repositories.overlaps
        self.promotions = self.api.repositories.promotions
        self.admission = self.api.admission

    def new_id(self) -> str:
        return make_id(self.clock)

    def compose_process(
        self, *, concurrency: int = 100, redis: Redis | None = None, **settings: Any
    ) -> Process:
        """Compose another process of the service. `settings`: fields of `Settings`.

        With `redis` it caches responses there.
        """
        lease_owner = f"process-{len(self.processes) + 1}"
        heartbeat = HeartbeatRepository(
            self.uri, self.name, clock=self.clock, timeout=timedelta(seconds=2)
        )
        resources = self._resources(lease_owner, heartbeat=heartbeat, targets=self.targets)
        settings = {"role": "all", "worker_concurrency": concurrency} | settings
        if redis is not None:
            resources = replace(resources, redis=redis)
            settings = {"cache_ttl_seconds": 60} | settings
        process = Process(compose(self._settings(**settings), resources), heartbeat)
        self.processes.append(process)
        return process

    def compose_api(self, redis: Redis, **changes: Any) -> Runtime:
        """Compose a process that serves only the API, and caches responses in Redis. `changes`:
        fields of `Resources`."""
        settings = self._settings(role="api", cache_ttl_seconds=60)
        return compose(settings, replace(self._resources("api"), redis=redis, **changes))

    def _settings(self, **changes: Any) -> Settings:
        fields: dict[str, Any] = {
            "lease_seconds": LEASE.total_seconds(),
            "poll_interval_seconds": POLL_INTERVAL.total_seconds(),
            "cache_ttl_seconds": 0,
            "max_timeout_seconds": 86_400,  # the clock of a test may advance by hours
        }
        return Settings(_env_file=None, **(fields | changes))

    def _resources(self, lease_owner: str, **changes: Any) -> Resources:
        return Resources(
            database=self.database,
            redis=Redis(),  # never connected: nothing is cached, and no loop is started
            clock=self.clock,
            new_id=self.new_id,
            lease_owner=lease_owner,
            secret_key=secrets.token_bytes(32),
            randomness=random.Random(0),
            **changes,
        )

    async def add_job(self, *schedules: Schedule, **changes: Any) -> Job:
        """Store a job with the `next_run` fields that a creation by the API sets."""
        now = self.clock.now()
        initialised = tuple(
            s.model_copy(update={"next_run": s.next_run or first_slot(s, now)}) for s in schedules
        )
        fields: dict[str, Any] = {
            "id": self.new_id(),
            "owner_id": OWNER_ID,
            "name": "a job",
            "target": LogTargetSpec(),
            "schedules": initialised,
            "next_run": earliest_next_run(initialised, active=True),
            "created_at": now,
            "updated_at": now,
        }
        job = Job(**(fields | changes))
        await self.jobs.insert(job)
        return job

    def every(self, seconds: int, **changes: Any) -> IntervalSchedule:
        """Return an interval schedule whose anchor is now."""
        return IntervalSchedule(
            id=self.new_id(), interval_seconds=seconds, anchor_at=self.clock.now(), **changes
        )

    async def queue(self, job: Job, **changes: Any) -> Execution:
        """Store a manual execution that may run now."""
        now = self.clock.now()
        fields: dict[str, Any] = {
            "id": self.new_id(),
            "job_id": job.id,
            "owner_id": job.owner_id,
            "kind": ExecutionKind.MANUAL,
            "scheduled_for": now,
            "run_at": now,
            "status": ExecutionStatus.QUEUED,
            "created_at": now,
        }
        execution = Execution(**(fields | changes))
        await self.executions.insert(execution)
        return execution

    async def list_executions(self, job: Job) -> list[Execution]:
        """Return the job's executions, the oldest slot first."""
        return await list_all_executions(self.executions, ExecutionFilter(job_id=job.id))

    async def read(self, execution: Execution) -> Execution:
        return await self.executions.get(execution.id, owner_id=None)

    async def close(self) -> None:
        for process in self.processes:
            process.heartbeat.close()
            process.runtime.auth.close()
        await self.database.close()


T = TypeVar("T")


def _require(part: T | None) -> T:
    assert part is not None
    return part


def open_pymongo_client(uri: str, *, timeout: timedelta) -> Any:
    """Open a client of PyMongo's asynchronous API, which replaces Motor, with the same options."""
    return AsyncMongoClient(uri, **client_options(timeout))


async def open_world(uri: str, name: str, *, driver: OpenClient = open_client) -> World:
    clock = ManualClock()
    database = Database(driver(uri, timeout=timedelta(seconds=8)), name, clock=clock)
    await create_indexes(database)
    return World(database, clock, uri, name)


def list_slots(executions: Sequence[Execution]) -> list[datetime]:
    """Return the `scheduled_for` of each execution."""
    return [execution.scheduled_for for execution in executions]


async def claim_due(
    leases: LeaseRepository, *, limit: int, owner_id: str = OWNER_ID
) -> list[Execution]:
    """Claim up to `limit` due executions of an owner, by default that of `World.add_job`."""
    return await leases.claim({owner_id: limit}) or []
