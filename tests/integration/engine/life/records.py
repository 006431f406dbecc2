"""Jobs, schedules and executions as the model knows them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.support.history import LIVE

MILLISECOND = timedelta(milliseconds=1)
LEASE = timedelta(seconds=10)
ON_TIME = timedelta(seconds=10)
SPREAD = timedelta(milliseconds=100)
STALE = timedelta(seconds=30)
PLACES = {"buffer_one": 1, "buffer_all": 100}

Key = tuple[str, datetime] | str
"""A scheduled execution is known by its schedule and slot, another one by its id."""


@dataclass(slots=True)
class Rule:
    """Which instants are slots."""

    type: str
    start: datetime
    """Of an interval its anchor, of a one-time schedule its slot."""
    period: timedelta = timedelta(minutes=1)

    def next_after(self, instant: datetime) -> datetime | None:
        if self.type == "one_time":
            return self.start if self.start > instant else None
        if self.type == "interval":
            slot = self.start + self.period
            return max(slot, instant + self.period - (instant - self.start) % self.period)
        slot = instant.replace(second=0, microsecond=0) + timedelta(minutes=1)
        while slot.minute % (self.period // timedelta(minutes=1)):
            slot += timedelta(minutes=1)
        return slot

    def through(self, first: datetime, last: datetime) -> list[datetime]:
        slots: list[datetime] = []
        slot = self.next_after(first - MILLISECOND)
        while slot is not None and slot <= last:
            slots.append(slot)
            slot = self.next_after(slot)
        return slots


@dataclass(slots=True)
class Schedule:
    id: str
    rule: Rule
    max_runs: int | None = None
    jitter: timedelta = timedelta(0)
    cursor: datetime | None = None
    runs: int = 0

    def runs_left(self) -> int | None:
        return None if self.max_runs is None else self.max_runs - self.runs

    def place(self, now: datetime) -> None:
        self.cursor = None if self.runs_left() == 0 else self.rule.next_after(now)


@dataclass(slots=True)
class Job:
    id: str
    policy: str
    catch_up: str
    window: timedelta
    max_attempts: int
    delay: timedelta
    schedules: list[Schedule]
    active: bool = True
    revision: int = 1

    def next_run(self) -> datetime | None:
        return min((s.cursor for s in self.schedules if s.cursor is not None), default=None)

    def is_due(self, now: datetime) -> bool:
        next_run = self.next_run()
        return next_run is not None and next_run <= now


@dataclass(slots=True)
class Execution:
    key: Key
    job_id: str
    slot: datetime
    run_at: datetime
    run_by: datetime
    """The latest `run_at` that is allowed, until the one that was chosen is known."""
    alone: bool = True
    """Not born under `allow_all`."""
    status: str = "queued"
    reason: str | None = None
    held: bool = False
    place: int | None = None
    token: int = 0
    owner: str | None = None
    lease_until: datetime | None = None
    cancel_requested: bool = False
    attempts: list[str | None] = field(default_factory=list)
    """Outcomes; None while it runs."""
    uncounted: int = 0
    """Attempts cut by a stop."""
    missed: tuple[datetime, int] | None = None
    """Of a `missed` record: the last slot it covers, and how many."""

    @property
    def is_live(self) -> bool:
        return self.alone and not self.held and self.status in LIVE

    def end(self, status: str, reason: str | None = None) -> None:
        self.status, self.reason = status, reason or self.reason
        self.owner = self.lease_until = self.place = None
        self.held = False


@dataclass(frozen=True, slots=True)
class Lease:
    """What a worker knows of a run: under which token, and the retry policy it began with."""

    key: Key
    token: int
    max_attempts: int
    delay: timedelta
