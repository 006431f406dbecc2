"""What the checker examines: the database, its history, the journal and the receiver's log.

The driver writes everything that it knows about a job, a call or a read, so that the oracle and the
invariants need nothing from the service. All values have defaults, so that tests can make evidence
up. All programs run on one machine, so they share one clock with the database.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tests.support.changes import Change, Document


class Result(StrEnum):
    """What the driver knows about a call."""

    OK = "ok"
    FAILED = "failed"
    """The call was rejected, or never sent."""
    UNKNOWN = "unknown"
    """There was no response, or a 5xx: the call may have had an effect."""


class Behaviour(StrEnum):
    """What the receiver does with the executions of a job. It is the path of the job's target."""

    PLAIN = ""
    """It responds 200 after 20 ms. One in 20 executions is slow, and one in 20 others gets a 503 at
    its first attempt."""
    SLOW = "slow"
    """It responds 200 after a time that is longer than the period of the job."""
    FLAKY = "flaky"
    """A third of all attempts get a 503."""
    FAILING = "failing"
    """Every attempt gets a 500, so that the attempts run out."""
    REJECTING = "rejecting"
    """Every attempt gets a 400. Jobs with it do not retry after a 4xx."""
    LARGE = "large"
    """It responds 200 with a body of 64 KB."""


HANGING = "hang"
"""The behaviour of a receiver that never responds."""
UNRESOLVED = "unresolved"
"""The behaviour of a receiver whose name is not resolved, so that nothing reaches it."""


class ScheduleType(StrEnum):
    """The types of schedules."""

    CRON = "cron"
    INTERVAL = "interval"
    ONE_TIME = "one_time"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDefinition:
    """A schedule as the driver sends it."""

    key: str = "a"
    """The driver's name for the schedule. It is unique in the job, and edits keep it."""
    type: ScheduleType = ScheduleType.INTERVAL
    period: timedelta | None = None
    """Of an interval; of a cron schedule `*/n` the n seconds, which divide a minute."""
    anchor: datetime | None = None
    """`start_at` of an interval, from which its slots count."""
    run_at: datetime | None = None
    """The slot of a one-time schedule."""
    active: bool = True
    max_runs: int | None = None
    jitter: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDefinition:
    """A job as the driver sends it."""

    schedules: tuple[ScheduleDefinition, ...] = ()
    overlap_policy: str = "skip"
    catch_up: str = "all"
    window: timedelta = timedelta(hours=1)
    """`window_seconds` of the catch-up policy."""
    timeout: timedelta = timedelta(seconds=5)
    max_attempts: int = 10
    retry_delay: timedelta = timedelta(seconds=0.3)
    """The strategy is always `fixed`."""
    retry_on: tuple[str | int, ...] | None = None
    behaviour: str = Behaviour.PLAIN
    """A `Behaviour`, or one of the receiver's hostile paths."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API by the driver that writes."""

    verb: str
    """`create`, `edit`, `pause`, `resume`, `delete`, `execute`, `backfill` or `cancel`."""
    job: str
    """The name of the job, which is unique."""
    result: Result
    sent_at: datetime
    ended_at: datetime
    pid: int | None = None
    """The process that was called."""
    status: int | None = None
    """The status of the response."""
    error: str | None = None
    """The type of the exception, if there was no response."""
    definition: JobDefinition | None = None
    """For `create`, and for an `edit` that may change when the job is due: the job as it is after
    the call. None: the call does not change when the job is due, unless it pauses, resumes or
    deletes the job."""
    description: str | None = None
    """For `create` and `edit`: the description that the job has after the call."""
    job_id: str | None = None
    """For an acknowledged `create`."""
    schedule_ids: Mapping[str, str] = field(default_factory=dict)
    """For an acknowledged `create` or `edit`: the ids of the schedules by their keys."""
    revision: int | None = None
    """The revision of the job in the response."""
    if_revision: int | None = None
    """The revision in `If-Match`. If the call is unknown, it has no effect after another
    acknowledged call has raised the revision."""
    execution_id: str | None = None
    """For `execute`, if it was acknowledged, and for `cancel`."""
    policy: str | None = None
    """The overlap policy in an `execute` or `backfill`."""
    start: datetime | None = None
    """For `backfill`: the range is [start, end)."""
    end: datetime | None = None
    backfill_id: str | None = None
    count: int | None = None
    """For an acknowledged `backfill`: how many slots the response has."""


@dataclass(frozen=True, slots=True)
class Read:
    """One `GET /jobs/{id}`, which the service may answer from its cache."""

    job: str
    sent_at: datetime
    ended_at: datetime
    status: int
    pid: int | None = None
    """The process that was called."""
    revision: int | None = None
    """This and the following fields are None if the job was not found."""
    description: str | None = None
    active: bool | None = None
    last_run: datetime | None = None
    next_run: datetime | None = None


class Part(StrEnum):
    """What a fault affects."""

    SERVICE = "service"
    DATABASE = "database"
    REDIS = "redis"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was applied to the service or its databases."""

    name: str
    at: datetime
    pid: int | None = None
    """The affected process of the service; None if unknown or if another server is affected."""
    part: Part = Part.SERVICE
    until: datetime | None = None
    """When its cause ended: the process was ready again, the database had a primary, and so on.
    None: it ended at once, or the run stopped before."""

    @property
    def ended_at(self) -> datetime:
        return self.until or self.at


@dataclass(frozen=True, slots=True)
class Gap:
    """A time (start, end] in which no process scheduled, as the service has stored it."""

    start: datetime
    end: datetime
    found_at: datetime | None = None
    """When a process scheduled again: the `window_seconds` of catch-up count from it. None: at the
    end of the gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the run should have produced, as the basis of a floor on what was examined."""

    jobs: int = 0
    """How many jobs were to be created before the first fault."""
    processes: int = 3
    """How many processes of the service ran at once."""
    slots_per_second: float = 0
    """Slots due while no job is paused. 0: all slots are due at one instant."""
    began_at: datetime | None = None
    """When all jobs existed."""
    ended_at: datetime | None = None
    """When the driver began to pause all jobs. None: the run did not come so far."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """The least number of faults by name that the run was to apply."""
    behaviours: tuple[str, ...] = (Behaviour.PLAIN,)
    """The behaviours of the receiver that jobs of the load have."""
    calls: tuple[str, ...] = ()
    """The verbs of which at least one call must be acknowledged."""


@dataclass(frozen=True, slots=True)
class ReceivedDelivery:
    """One request that reached the receiver."""

    execution_id: str
    attempt: int
    scheduled_for: datetime
    received_at: datetime
    status: int | None
    """The status of the response; None if the sender did not wait for it."""
    responded_at: datetime | None = None
    behaviour: str = Behaviour.PLAIN


@dataclass(kw_only=True)
class Evidence:
    """Everything that the checker examines."""

    jobs: list[Document] = field(default_factory=list)
    executions: list[Document] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    gaps: list[Gap] | None = None
    """None: the service stores no gaps, so that each slot may be late."""
    deliveries: list[ReceivedDelivery] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    load: Load = field(default_factory=Load)
