"""Records evidence of an engine with a manual clock, as a chaos run records it."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from app.models.job import Job
from app.models.outcome import Outcome
from app.models.policy import CatchUpPolicy, OverlapPolicy, RetryPolicy, RetryStrategy
from app.models.schedule import IntervalSchedule
from app.models.user import Actor, Role
from app.runtime import Runtime
from app.schemas.jobs import JobUpdate
from app.targets.target import Delivery
from tests.chaos.evidence import (
    Call,
    Evidence,
    Fault,
    JobDefinition,
    Part,
    Read,
    ReceivedDelivery,
    Result,
    ScheduleDefinition,
)
from tests.support.changes import Change
from tests.support.engine import SUCCEEDED, World

SECOND = timedelta(seconds=1)
USER = Actor(user_id="owner", username="owner", role=Role.EDITOR)
NAME = "a job"


class EvidenceRecorder:
    """Records what the driver and the receiver of a chaos run would record."""

    def __init__(self, world: World, *, redis_url: str) -> None:
        self.world = world
        self.redis_url = redis_url
        self.evidence = Evidence()
        self.may_respond = asyncio.Event()
        self.may_respond.set()
        self.respond: Callable[[Delivery], tuple[int, Outcome]] = lambda _: (200, SUCCEEDED)
        """Returns the receiver's status, and the outcome of the attempt."""
        self._moves = [(datetime.min.replace(tzinfo=UTC), world.clock.now())]
        world.targets.outcome_of = self._receive

    @property
    def now(self) -> datetime:
        return self.world.clock.now()

    def advance(self, by: timedelta) -> None:
        """Move the clock. The next write of the database is in another millisecond of its own
        clock."""
        began = time.time_ns() // 1_000_000
        while (at := time.time_ns() // 1_000_000) == began:
            pass
        self.world.clock.advance(by)
        self._moves.append((datetime.fromtimestamp(at / 1_000, UTC), self.now))

    def move_to_manual_clock(self, change: Change) -> Change:
        """Return the change with the manual clock's time, because the database has its own."""
        instants = [manual for began, manual in self._moves if began <= change.at]
        return replace(change, at=instants[-1])

    async def create_job(
        self,
        every: int = 1,
        *,
        policy: OverlapPolicy = OverlapPolicy.SKIP,
        catch_up: CatchUpPolicy | None = None,
        max_attempts: int = 3,
        **changes: Any,
    ) -> Job:
        """Store a job with one interval, and record its creation as acknowledged now. `changes`:
        fields of the schedule."""
        schedule = self.world.every(every, **changes)
        retry = RetryPolicy(
            max_attempts=max_attempts, strategy=RetryStrategy.FIXED, delay_seconds=1
        )
        policies = {"overlap_policy": policy, "catch_up": catch_up or CatchUpPolicy()}
        job = await self.world.add_job(schedule, name=NAME, retry=retry, **policies)
        self.call(
            "create",
            definition=_define(job, schedule),
            description="",
            job_id=job.id,
            revision=1,
            schedule_ids={"a": schedule.id},
        )
        return job

    def record_sent_pause(self) -> None:
        """Record a pause without a response: slots after it may be recorded."""
        self.call("pause", Result.UNKNOWN)

    def record_outage(self, length: timedelta) -> None:
        """Record that the database does not respond from now on."""
        until = self.now + length
        self.evidence.faults.append(Fault("outage", self.now, None, Part.DATABASE, until))

    def call(self, verb: str, result: Result = Result.OK, **facts: Any) -> None:
        self.evidence.calls.append(Call(verb, NAME, result, self.now, self.now, **facts))

    async def edit(self, runtime: Runtime, job: Job, description: str) -> None:
        edited = await runtime.jobs.edit(USER, job.id, JobUpdate(description=description))
        self.call("edit", description=description, revision=edited.revision)

    async def read(self, runtime: Runtime, job: Job) -> None:
        body = json.loads((await runtime.cached_jobs.get_job(USER, job.id)).content)
        fields = {name: body[name] for name in ("revision", "description", "active")}
        for name in ("last_run", "next_run"):
            fields[name] = None if body[name] is None else datetime.fromisoformat(body[name])
        self.evidence.reads.append(Read(NAME, self.now, self.now, 200, **fields))

    async def _receive(self, sent: Delivery) -> Outcome:
        received_at = self.now
        await self.may_respond.wait()
        status, outcome = self.respond(sent)
        self.evidence.deliveries.append(
            ReceivedDelivery(
                sent.execution_id, sent.attempt, sent.scheduled_for, received_at, status, self.now
            )
        )
        return outcome


def _define(job: Job, schedule: IntervalSchedule) -> JobDefinition:
    """What a driver would have sent."""
    due = ScheduleDefinition(
        anchor=schedule.anchor_at,
        period=schedule.interval_seconds * SECOND,
        max_runs=schedule.max_runs,
        jitter=schedule.jitter_seconds * SECOND,
    )
    return JobDefinition(
        schedules=(due,),
        overlap_policy=job.overlap_policy.value,
        catch_up=job.catch_up.policy.value,
        window=job.catch_up.window,
        timeout=timedelta(seconds=job.timeout_seconds),
        max_attempts=job.retry.max_attempts,
        retry_delay=job.retry.delay,
    )
