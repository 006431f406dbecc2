"""The runtime: `compose()` builds every part; `open_runtime()` opens and closes the stores."""

import os
import random
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from redis.asyncio import Redis

import app
from app.cache import Cache
from app.clock import Clock, SystemClock
from app.descriptors import raise_descriptor_limit
from app.embedded.secret_key import load_secret_key
from app.embedded.stores import open_stores
from app.engine.engine import Engine
from app.engine.executor import Executor
from app.engine.history_limit import HistoryLimit
from app.engine.invalidator import Invalidator
from app.engine.janitor import Janitor, Trimmer
from app.engine.lease_keeper import LeaseKeeper
from app.engine.reaper import Reaper
from app.engine.recorder import Recorder
from app.engine.response_trimmer import ResponseTrimmer
from app.engine.revision_janitor import RevisionJanitor
from app.engine.saturation import Saturation
from app.engine.scheduler import Scheduler
from app.engine.turns import OwnerTurns
from app.engine.worker import Worker
from app.models.ids import NewId, uuid7
from app.models.target import TargetSpec
from app.receiver_addresses import AddressPolicy
from app.repositories.executions import ExecutionRepository
from app.repositories.heartbeat import HeartbeatRepository
from app.repositories.history import HistoryRepository
from app.repositories.idempotency_keys import IdempotencyKeyRepository
from app.repositories.indexes import create_indexes, drop_retired_indexes
from app.repositories.job_revisions import JobRevisionRepository
from app.repositories.jobs import JobRepository
from app.repositories.leases import LeaseRepository
from app.repositories.meta import MetaRepository
from app.repositories.migrations import migrate
from app.repositories.mongo import Database
from app.repositories.opening import open_database
from app.repositories.overlaps import OverlapRepository
from app.repositories.promotions import PromotionRepository
from app.repositories.queue import QueueRepository
from app.repositories.replaced_revisions import ReplacedRevisionRepository
from app.repositories.stored_responses import StoredResponseRepository
from app.repositories.ticks import TickRepository
from app.repositories.users import UserRepository
from app.services.admission import Admission
from app.services.auth import AuthService, Credentials
from app.services.backfills import BackfillService
from app.services.cached_jobs import CachedJobs
from app.services.completion import Completion
from app.services.executions import ExecutionService
from app.services.firing import Firing
from app.services.forecasts import ForecastService
from app.services.health import HealthService, LoopProbe
from app.services.idempotency import IdempotencyService
from app.services.job_revisions import JobRevisionService
from app.services.jobs import JobService
from app.services.large_reads import LargeReads
from app.services.schedules import ScheduleService
from app.services.ticks import TickService
from app.settings import Settings
from app.targets.http import HttpTarget
from app.targets.log import LogTarget
from app.targets.registry import TargetRegistry
from app.targets.resolver import AresResolver, LimitedResolver
from app.targets.session import open_session
from app.targets.target import Target
from app.wake import Wake

# No limit of connections, because the worker's concurrency limits them.
_NO_LIMIT = 0


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What `compose()` does not build: open stores, the clock, randomness and identity."""

    database: Database
    redis: Redis = field(repr=False)
    redis_is_shared: bool = True
    """Whether every process that uses the database uses this Redis. Otherwise nothing is cached."""
    clock: Clock
    new_id: NewId
    lease_owner: str
    secret_key: bytes = field(repr=False)
    randomness: random.Random
    heartbeat: HeartbeatRepository | None = None
    """Set only if the process role has a worker; the same is true for `targets`."""
    targets: Target[TargetSpec] | None = None


@dataclass(frozen=True, kw_only=True)
class Repositories:
    """Every repository of the process, each built once. `HeartbeatRepository` is a resource,
    because it opens a client of its own."""

    jobs: JobRepository
    executions: ExecutionRepository
    job_revisions: JobRevisionRepository
    replaced_revisions: ReplacedRevisionRepository
    overlaps: OverlapRepository
    promotions: PromotionRepository
    queue: QueueRepository
    leases: LeaseRepository
    history: HistoryRepository
    stored_responses: StoredResponseRepository
    users: UserRepository
    idempotency_keys: IdempotencyKeyRepository
    meta: MetaRepository
    ticks: TickRepository


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Every part that a request or a command may need.

    `admission`, `firing` and `repositories` are here for the tests.
    """

    settings: Settings
    auth: AuthService
    jobs: JobService
    cached_jobs: CachedJobs
    large_reads: LargeReads
    schedules: ScheduleService
    forecasts: ForecastService
    executions: ExecutionService
    backfills: BackfillService
    idempotency: IdempotencyService
    health: HealthService
    admission: Admission
    firing: Firing
    engine: Engine
    repositories: Repositories
    first_admin: Credentials | None = None
    """The first admin's name and random password, to show once. None if no random password was
    created."""

    async def start(self) -> None:
        """Start the loops of the process role."""
        self.engine.start()

    async def stop(self) -> None:
        """Stop the loops. Attempts that are still running after `shutdown_grace` are stopped, and
        their executions are queued again."""
        await self.engine.stop(self.settings.shutdown_grace)


@asynccontextmanager
async def open_runtime(
    settings: Settings, *, migrate_again: bool = False
) -> AsyncIterator[Runtime]:
    """Open the stores, bring them up to date, compose every part, and add the first admin.

    The loops do not run yet. `migrate_again` checks every document, as `init-db` does. Raises
    ConfigurationError, and UnavailableError if the database stops responding.
    """
    raise_descriptor_limit()
    async with AsyncExitStack() as stack:
        resources = await _open_resources(settings, stack)
        runtime = compose(settings, resources)
        stack.callback(runtime.auth.close)
        await create_indexes(resources.database)
        await migrate(resources.database, meta=runtime.repositories.meta, again=migrate_again)
        await drop_retired_indexes(resources.database)
        password = settings.admin_password
        first_admin = await runtime.auth.ensure_first_admin(
            settings.admin_username, password.get_secret_value() if password else None
        )
        yield replace(runtime, first_admin=first_admin)


async def _open_resources(settings: Settings, stack: AsyncExitStack) -> Resources:
    stores = await stack.enter_async_context(open_stores(settings))
    clock = SystemClock()
    uri, name, limit = stores.mongodb_uri, settings.mongodb_name, settings.mongodb_timeout
    opened = open_database(uri, name, clock=clock, limit=limit)
    database = await stack.enter_async_context(opened)
    heartbeat, targets = None, None
    if _has_worker(settings):
        heartbeat = HeartbeatRepository(uri, name, clock=clock, timeout=settings.lease_term / 4)
        stack.callback(heartbeat.close)
        resolver = LimitedResolver(AresResolver(settings.dns_servers), clock=clock)
        stack.push_async_callback(resolver.close)
        session = await stack.enter_async_context(
            open_session(
                allow_private_hosts=settings.http_allow_private_hosts,
                deny_networks=settings.http_deny_networks,
                limit=_NO_LIMIT,
                resolver=resolver,
            )
        )
        http = HttpTarget(session=session, clock=clock, version=app.__version__)
        targets = TargetRegistry(http=http, log=LogTarget())
    return Resources(
        database=database,
        redis=stores.redis,
        redis_is_shared=stores.redis_is_shared,
        clock=clock,
        new_id=_make_id_source(clock),
        lease_owner=_make_lease_owner(),
        secret_key=load_secret_key(settings).encode(),
        randomness=random.SystemRandom(),
        heartbeat=heartbeat,
        targets=targets,
    )


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What services and the engine have in common."""

    repositories: Repositories
    cache: Cache
    wake: Wake
    admission: Admission
    completion: Completion
    ticks: TickService
    firing: Firing
    revisions: JobRevisionService
    jobs: JobService
    saturation: Saturation


def compose(settings: Settings, resources: Resources) -> Runtime:
    """Build every repository, service and loop of the process, each once. No I/O."""
    parts = _compose_parts(settings, resources)
    repositories, new_id = parts.repositories, resources.new_id
    jobs, executions = repositories.jobs, repositories.executions
    admission, wake = parts.admission, parts.wake
    engine = _compose_engine(settings, resources, parts)
    return Runtime(
        settings=settings,
        auth=_compose_auth(settings, resources, repositories),
        jobs=parts.jobs,
        cached_jobs=CachedJobs(
            jobs=parts.jobs,
            cache=parts.cache,
            max_timeout_seconds=settings.max_timeout_seconds,
        ),
        large_reads=LargeReads(),
        schedules=ScheduleService(job_service=parts.jobs, jobs=jobs, new_id=new_id),
        forecasts=ForecastService(
            job_service=parts.jobs, jobs=jobs, executions=executions, new_id=new_id
        ),
        executions=ExecutionService(
            executions=executions,
            jobs=jobs,
            revisions=parts.revisions,
            admission=admission,
            completion=parts.completion,
            wake=wake,
            new_id=new_id,
        ),
        backfills=BackfillService(jobs=jobs, admission=admission, wake=wake, new_id=new_id),
        idempotency=IdempotencyService(keys=repositories.idempotency_keys, new_id=new_id),
        health=HealthService(
            database=resources.database,
            cache=parts.cache,
            meta=repositories.meta,
            loops=[LoopProbe(loop.name, loop.get_seconds_overdue) for loop in engine.loops],
            warnings={"slots": parts.saturation.describe},
        ),
        admission=admission,
        firing=parts.firing,
        engine=engine,
        repositories=repositories,
    )


def _compose_auth(
    settings: Settings, resources: Resources, repositories: Repositories
) -> AuthService:
    return AuthService(
        users=repositories.users,
        clock=resources.clock,
        new_id=resources.new_id,
        secret_key=resources.secret_key,
        algorithm=settings.algorithm,
        token_lifetime=settings.access_token_lifetime,
    )


def _compose_parts(settings: Settings, resources: Resources) -> _Parts:
    repositories = _compose_repositories(settings, resources)
    jobs, executions = repositories.jobs, repositories.executions
    clock, new_id = resources.clock, resources.new_id
    ttl = settings.cache_ttl if resources.redis_is_shared else timedelta(0)
    cache = Cache(resources.redis, ttl=ttl, clock=clock)
    wake = Wake(resources.redis)
    promotions = repositories.promotions
    admission = Admission(
        executions=executions, overlaps=repositories.overlaps, promotions=promotions
    )
    ticks = _compose_ticks(settings, resources, repositories)
    firing = Firing(
        jobs=jobs,
        executions=executions,
        admission=admission,
        ticks=ticks,
        cache=cache,
        wake=wake,
        clock=clock,
        new_id=new_id,
    )
    revisions = JobRevisionService(
        revisions=repositories.job_revisions,
        history_bytes_per_owner=settings.max_history_bytes_per_owner,
    )
    return _Parts(
        repositories=repositories,
        cache=cache,
        wake=wake,
        admission=admission,
        completion=Completion(jobs=jobs, promotions=promotions, cache=cache, wake=wake),
        ticks=ticks,
        firing=firing,
        revisions=revisions,
        jobs=JobService(
            jobs=jobs,
            executions=executions,
            revisions=revisions,
            firing=firing,
            cache=cache,
            wake=wake,
            new_id=new_id,
            max_timeout_seconds=settings.max_timeout_seconds,
            addresses=AddressPolicy(settings.http_allow_private_hosts, settings.http_deny_networks),
        ),
        saturation=Saturation(clock=clock, concurrency=settings.worker_concurrency),
    )


def _compose_ticks(
    settings: Settings, resources: Resources, repositories: Repositories
) -> TickService:
    return TickService(
        ticks=repositories.ticks,
        jobs=repositories.jobs,
        clock=resources.clock,
        scheduler=resources.lease_owner if _has_scheduler(settings) else None,
        retention=settings.retention,
    )


def _compose_repositories(settings: Settings, resources: Resources) -> Repositories:
    database = resources.database
    return Repositories(
        jobs=JobRepository(database),
        executions=ExecutionRepository(database),
        job_revisions=JobRevisionRepository(database),
        replaced_revisions=ReplacedRevisionRepository(database),
        overlaps=OverlapRepository(database),
        promotions=PromotionRepository(database),
        queue=QueueRepository(database),
        leases=LeaseRepository(
            database, lease_owner=resources.lease_owner, term=settings.lease_term
        ),
        history=HistoryRepository(database),
        stored_responses=StoredResponseRepository(database),
        users=UserRepository(database),
        idempotency_keys=IdempotencyKeyRepository(database),
        meta=MetaRepository(database),
        ticks=TickRepository(database),
    )


def _compose_engine(settings: Settings, resources: Resources, parts: _Parts) -> Engine:
    """The parts of the engine that the process role needs."""
    repositories, clock = parts.repositories, resources.clock
    if settings.role == "api":
        return Engine(wake=parts.wake, clock=clock)
    responses = repositories.stored_responses
    trimmer = ResponseTrimmer(responses=responses, clock=clock)
    scheduler, keeper, worker, limit = None, None, None, None
    if _has_scheduler(settings):
        scheduler = Scheduler(
            jobs=repositories.jobs,
            firing=parts.firing,
            ticks=parts.ticks,
            clock=clock,
            poll_interval=settings.poll_interval,
        )
    if _has_worker(settings):
        limit = HistoryLimit(
            responses=responses, limit=settings.max_history_bytes_per_owner, clock=clock
        )
        recorder = Recorder(
            leases=repositories.leases,
            completion=parts.completion,
            history_limit=limit,
            response_trimmer=trimmer,
        )
        keeper, worker = _compose_worker(settings, resources, parts, recorder)
    return Engine(
        wake=parts.wake,
        clock=clock,
        scheduler=scheduler,
        keeper=keeper,
        worker=worker,
        reaper=Reaper(
            jobs=repositories.jobs,
            leases=repositories.leases,
            completion=parts.completion,
            term=settings.lease_term,
        ),
        janitor=Janitor(history=repositories.history, retention=settings.retention),
        trimmer=Trimmer(history=repositories.history, keep=settings.retention_count),
        response_trimmer=trimmer,
        revision_janitor=RevisionJanitor(revisions=repositories.replaced_revisions),
        history_limit=limit,
        invalidator=Invalidator(parts.cache),
    )


def _compose_worker(
    settings: Settings, resources: Resources, parts: _Parts, recorder: Recorder
) -> tuple[LeaseKeeper, Worker]:
    if resources.heartbeat is None or resources.targets is None:
        raise TypeError("a role with a worker needs a heartbeat and targets")
    repositories, clock = parts.repositories, resources.clock
    keeper = LeaseKeeper(
        heartbeat=resources.heartbeat,
        lease_owner=resources.lease_owner,
        term=settings.lease_term,
        clock=clock,
        # `worker` is built below; the keeper calls this only after the start.
        on_lost=lambda leases: worker.stop_lost(leases),
    )
    executor = Executor(
        recorder=recorder,
        targets=resources.targets,
        pause_for_gone_receiver=parts.jobs.pause_for_gone_receiver,
        randomness=resources.randomness,
        clock=clock,
        max_timeout_seconds=settings.max_timeout_seconds,
    )
    turns = OwnerTurns(
        queue=repositories.queue,
        saturation=parts.saturation,
        clock=clock,
        concurrency=settings.worker_concurrency,
        most_per_owner=settings.max_running_per_owner,
        poll_interval=settings.poll_interval,
    )
    worker = Worker(
        jobs=repositories.jobs,
        turns=turns,
        leases=repositories.leases,
        executor=executor,
        keeper=keeper,
        recorder=recorder,
        wake=parts.wake,
        clock=clock,
        concurrency=settings.worker_concurrency,
    )
    return keeper, worker


def _has_scheduler(settings: Settings) -> bool:
    return settings.role in ("all", "scheduler")


def _has_worker(settings: Settings) -> bool:
    return settings.role in ("all", "worker")


def _make_id_source(clock: Clock) -> NewId:
    return lambda: uuid7(int(clock.now().timestamp() * 1000), secrets.token_bytes(10))


def _make_lease_owner() -> str:
    """A name that no other process has and that shows the machine and the process."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
