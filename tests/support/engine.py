"""The engine on a real database, with a clock that tests move and a target that they script."""

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pymongo import AsyncMongoClient

from app.engine.executor import Executor
from app.engine.lease import LeaseKeeper
from app.engine.loop import AT_ONCE
from app.engine.reaper import Reaper
from app.engine.recorder import Recorder
from app.engine.scheduler import Scheduler
from app.engine.worker import Worker
from app.models.execution import AttemptOutcome, Execution, ExecutionKind, ExecutionStatus
from app.models.ids import uuid7
from app.models.job import Job, earliest
from app.models.outcome import Outcome
from app.models.schedule import IntervalSchedule, Schedule, first_slot
from app.models.target import LogTargetSpec
from app.repositories.executions import ExecutionFilter, ExecutionRepository
from app.repositories.heartbeat import Heartbeat
from app.repositories.indexes import create_indexes
from app.repositories.jobs import JobRepository
from app.repositories.leases import LeaseRepository
from app.repositories.mongo import Database, client_options, open_client
from app.repositories.overlaps import OverlapRepository
from app.services.admission import Admission
from app.services.firing import Firing
from app.targets.target import Delivery
from app.wake import Wake
from tests.support.clock import ManualClock

OpenClient = Callable[..., Any]
LEASE = timedelta(seconds=10)
POLL_INTERVAL = timedelta(seconds=1)
SUCCEEDED = Outcome(AttemptOutcome.SUCCEEDED)


class ScriptedTargets:
    """Stands in for every target: records deliveries and answers by script."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.answer: Callable[[Delivery], Any] = lambda _: SUCCEEDED

    async def deliver(self, spec: object, delivery: Delivery) -> Outcome:
        self.deliveries.append(delivery)
        answer = self.answer(delivery)
        outcome: Outcome = await answer if hasattr(answer, "__await__") else answer
        return outcome


@dataclass
class Process:
    """What one process of the service has: its own lease owner, worker and loops."""

    scheduler: Scheduler
    worker: Worker
    reaper: Reaper
    keeper: LeaseKeeper
    heartbeat: Heartbeat
    leases: LeaseRepository
    firing: Firing
    wake: Wake

    async def work(self) -> None:
        """Tick the worker until nothing is claimable, and let every run end."""
        while await self.worker.tick() == AT_ONCE:
            await self.settle()

    async def settle(self) -> None:
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
    gone: list[str] = field(default_factory=list)
    """Jobs whose receiver said 410."""

    def __post_init__(self) -> None:
        self.jobs = JobRepository(self.database)
        self.executions = ExecutionRepository(self.database)
        self.overlaps = OverlapRepository(self.database)
        self.admission = Admission(executions=self.executions, overlaps=self.overlaps)

    def new_id(self) -> str:
        return uuid7(int(self.clock.now().timestamp() * 1000), secrets.token_bytes(10))

    def process(self, *, concurrency: int = 100) -> Process:
        owner = f"process-{len(self.processes) + 1}"
        wake = Wake(None)
        leases = LeaseRepository(self.database, owner=owner, lease=LEASE)
        heartbeat = Heartbeat(self.uri, self.name, clock=self.clock, timeout=timedelta(seconds=2))
        keeper = LeaseKeeper(
            heartbeat=heartbeat, owner=owner, lease=LEASE, clock=self.clock, on_lost=lambda _: None
        )
        recorder = Recorder(jobs=self.jobs, leases=leases, overlaps=self.overlaps, wake=wake)
        firing = Firing(
            jobs=self.jobs,
            executions=self.executions,
            admission=self.admission,
            wake=wake,
            clock=self.clock,
            new_id=self.new_id,
        )
        process = Process(
            scheduler=Scheduler(
                jobs=self.jobs, firing=firing, clock=self.clock, poll_interval=POLL_INTERVAL
            ),
            worker=Worker(
                jobs=self.jobs,
                leases=leases,
                executor=Executor(
                    recorder=recorder,
                    targets=self.targets,  # type: ignore[arg-type]
                    pause_gone=self.pause_gone,
                    randomness=random.Random(0),
                    clock=self.clock,
                ),
                keeper=keeper,
                recorder=recorder,
                wake=wake,
                clock=self.clock,
                concurrency=concurrency,
                poll_interval=POLL_INTERVAL,
            ),
            reaper=Reaper(
                jobs=self.jobs,
                leases=leases,
                overlaps=self.overlaps,
                wake=wake,
                lease=LEASE,
            ),
            keeper=keeper,
            heartbeat=heartbeat,
            leases=leases,
            firing=firing,
            wake=wake,
        )
        self.processes.append(process)
        return process

    async def add_job(self, *schedules: Schedule, **changes: Any) -> Job:
        """Store a job whose cursors are as a create would set them."""
        now = self.clock.now()
        placed = tuple(
            s.model_copy(update={"next_run": s.next_run or first_slot(s, now)}) for s in schedules
        )
        fields: dict[str, Any] = {
            "id": self.new_id(),
            "owner_id": "owner",
            "name": "a job",
            "target": LogTargetSpec(),
            "schedules": placed,
            "next_run": earliest(placed, active=True),
            "created_at": now,
            "updated_at": now,
        }
        job = Job(**(fields | changes))
        await self.jobs.insert(job)
        return job

    def every(self, seconds: int, **changes: Any) -> IntervalSchedule:
        """An interval schedule anchored now."""
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

    async def history(self, job: Job) -> list[Execution]:
        """The job's executions, the oldest slot first."""
        wanted = ExecutionFilter(job_id=job.id)
        return list(reversed(await self.executions.list_executions(wanted, limit=10_000)))

    async def read(self, execution: Execution) -> Execution:
        return await self.executions.get(execution.id, owner_id=None)

    async def pause_gone(self, job: Job) -> bool:
        """What the service itself does after a 410; its tests are elsewhere."""
        self.gone.append(job.id)
        return True

    async def close(self) -> None:
        for process in self.processes:
            process.heartbeat.close()
        await self.database.close()


def open_pymongo_client(uri: str, *, timeout: timedelta) -> Any:
    """The successor of Motor, with the same options."""
    return AsyncMongoClient(uri, **client_options(timeout))


async def open_world(uri: str, name: str, *, driver: OpenClient = open_client) -> World:
    clock = ManualClock()
    database = Database(driver(uri, timeout=timedelta(seconds=8)), name, clock=clock)
    await create_indexes(database)
    return World(database, clock, uri, name)


def slots(executions: Sequence[Execution]) -> list[datetime]:
    """The nominal times, in order."""
    return [execution.scheduled_for for execution in executions]
