"""The runtime: the one place where everything is opened, composed and closed."""

import os
import random
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import app
from app.cache import Cache
from app.clock import Clock, SystemClock
from app.engine.engine import GUARD, WATCH, Engine
from app.engine.executor import Executor
from app.engine.janitor import Janitor, Trimmer
from app.engine.lease import LeaseKeeper
from app.engine.loop import Loop
from app.engine.reaper import Reaper
from app.engine.recorder import Recorder
from app.engine.scheduler import Scheduler
from app.engine.worker import Worker
from app.local import Stores, open_stores, secret_key
from app.models.ids import NewId, uuid7
from app.repositories.executions import ExecutionRepository
from app.repositories.heartbeat import Heartbeat
from app.repositories.history import HistoryRepository
from app.repositories.idempotency_keys import IdempotencyKeyRepository
from app.repositories.indexes import create_indexes
from app.repositories.jobs import JobRepository
from app.repositories.leases import LeaseRepository
from app.repositories.mongo import Database, open_client
from app.repositories.overlaps import OverlapRepository
from app.repositories.users import UserRepository
from app.services.admission import Admission
from app.services.auth import AuthService, Credentials
from app.services.backfills import BackfillService
from app.services.executions import ExecutionService
from app.services.firing import Firing
from app.services.health import HealthService, LoopProbe
from app.services.idempotency import IdempotencyService
from app.services.job_views import JobViews
from app.services.jobs import JobService
from app.services.schedules import ScheduleService
from app.settings import Settings
from app.targets.egress import open_session
from app.targets.http import HttpTarget
from app.targets.log import LogTarget
from app.targets.registry import Targets
from app.wake import Wake

_NO_LIMIT = 0  # of connections: the worker's concurrency is the limit


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Every part that a request or a command may need, composed once."""

    settings: Settings
    clock: Clock
    auth: AuthService
    jobs: JobService
    job_views: JobViews
    schedules: ScheduleService
    executions: ExecutionService
    backfills: BackfillService
    idempotency: IdempotencyService
    health: HealthService
    first_admin: Credentials | None
    """Name and password to show once; None if there was an admin already."""
    engine: Engine

    async def start(self) -> None:
        """Start the loops of this process's role."""
        self.engine.start()

    async def stop(self) -> None:
        """Stop the loops: what runs gets the grace, the rest is given back."""
        await self.engine.stop(self.settings.shutdown_grace)


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncIterator[Runtime]:
    """Open the stores, compose every part and see to indexes and the first admin.

    The loops are not running yet. Raises ConfigurationError, or UnavailableError if the database
    does not answer.
    """
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(open_stores(settings))
        clock = SystemClock()
        client = open_client(stores.mongodb_uri, timeout=settings.mongodb_timeout)
        database = Database(client, settings.mongodb_name, clock=clock)
        stack.push_async_callback(database.close)
        await create_indexes(database)
        yield await _compose(settings, stores, database, clock, stack)


async def _compose(
    settings: Settings,
    stores: Stores,
    database: Database,
    clock: Clock,
    stack: AsyncExitStack,
) -> Runtime:
    new_id = _id_source(clock)
    cache = Cache(stores.redis, ttl=settings.cache_ttl, clock=clock)
    wake = Wake(stores.redis)
    jobs = JobRepository(database)
    executions = ExecutionRepository(database)
    admission = Admission(executions=executions, overlaps=OverlapRepository(database))
    firing = Firing(
        jobs=jobs,
        executions=executions,
        admission=admission,
        wake=wake,
        clock=clock,
        new_id=new_id,
    )
    job_service = JobService(
        jobs=jobs, executions=executions, firing=firing, cache=cache, wake=wake, new_id=new_id
    )
    engine = await _compose_engine(settings, stores, database, firing, job_service, wake, stack)
    auth = AuthService(
        users=UserRepository(database),
        clock=clock,
        new_id=new_id,
        secret_key=secret_key(settings).encode(),
        algorithm=settings.algorithm,
        token_lifetime=settings.access_token_lifetime,
    )
    stack.callback(auth.close)
    password = settings.admin_password
    first_admin = await auth.ensure_first_admin(
        settings.admin_username, password.get_secret_value() if password else None
    )
    return Runtime(
        settings=settings,
        clock=clock,
        auth=auth,
        jobs=job_service,
        job_views=JobViews(jobs=job_service, cache=cache),
        schedules=ScheduleService(
            jobs=job_service, stored_jobs=jobs, executions=executions, new_id=new_id
        ),
        executions=ExecutionService(
            executions=executions, jobs=jobs, admission=admission, wake=wake, new_id=new_id
        ),
        backfills=BackfillService(
            jobs=jobs, executions=executions, admission=admission, wake=wake, new_id=new_id
        ),
        idempotency=IdempotencyService(keys=IdempotencyKeyRepository(database), new_id=new_id),
        health=HealthService(
            database=database, cache=cache, loops=[_probe(loop) for loop in engine.loops]
        ),
        first_admin=first_admin,
        engine=engine,
    )


async def _compose_engine(
    settings: Settings,
    stores: Stores,
    database: Database,
    firing: Firing,
    job_service: JobService,
    wake: Wake,
    stack: AsyncExitStack,
) -> Engine:
    engine = Engine(wake=wake)
    clock, jobs = database.clock, JobRepository(database)
    owner = _lease_owner()
    leases = LeaseRepository(database, owner=owner, lease=settings.lease)
    overlaps = OverlapRepository(database)
    if settings.role in ("all", "scheduler"):
        scheduler = Scheduler(
            jobs=jobs, firing=firing, clock=clock, poll_interval=settings.poll_interval
        )
        engine.loops.append(Loop("scheduler", scheduler.tick, clock=clock, wake=wake.schedules))
    if settings.role in ("all", "worker"):
        heartbeat = Heartbeat(
            stores.mongodb_uri, settings.mongodb_name, clock=clock, timeout=settings.lease / 4
        )
        stack.callback(heartbeat.close)
        session = await stack.enter_async_context(
            open_session(allow_private_hosts=settings.http_allow_private_hosts, limit=_NO_LIMIT)
        )
        targets = Targets(
            http=HttpTarget(session=session, clock=clock, version=app.__version__),
            log=LogTarget(),
        )
        engine.keeper = LeaseKeeper(
            heartbeat=heartbeat,
            owner=owner,
            lease=settings.lease,
            clock=clock,
            on_lost=lambda ids: worker.lose(ids),
        )
        recorder = Recorder(jobs=jobs, leases=leases, overlaps=overlaps, wake=wake)
        engine.worker = worker = Worker(
            jobs=jobs,
            leases=leases,
            executor=Executor(
                recorder=recorder,
                targets=targets,
                pause_gone=job_service.pause_gone,
                randomness=random.SystemRandom(),
                clock=clock,
            ),
            keeper=engine.keeper,
            recorder=recorder,
            wake=wake,
            clock=clock,
            concurrency=settings.worker_concurrency,
            poll_interval=settings.poll_interval,
        )
        engine.loops.append(Loop("worker", worker.tick, clock=clock, wake=wake.executions))
        engine.loops.append(Loop(WATCH, worker.watch, clock=clock))
        engine.loops.append(Loop(GUARD, worker.guard, clock=clock))
    if settings.role != "api":
        reaper = Reaper(
            jobs=jobs,
            leases=leases,
            overlaps=overlaps,
            wake=wake,
            lease=settings.lease,
        )
        engine.loops.append(Loop("reaper", reaper.tick, clock=clock))
        history = HistoryRepository(database)
        janitor = Janitor(history=history, retention=settings.retention)
        engine.loops.append(Loop("janitor", janitor.tick, clock=clock))
        trimmer = Trimmer(history=history, keep=settings.retention_count)
        engine.loops.append(Loop("trimmer", trimmer.tick, clock=clock))
    return engine


def _id_source(clock: Clock) -> NewId:
    return lambda: uuid7(int(clock.now().timestamp() * 1000), secrets.token_bytes(10))


def _lease_owner() -> str:
    """A name no other process has, in which a person finds the machine and the process."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _probe(loop: Loop) -> LoopProbe:
    return LoopProbe(loop.name, loop.seconds_since_tick)
