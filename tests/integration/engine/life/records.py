"""Jobs, schedules and executions of the model."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.support.replay import UNFINISHED

MILLISECOND = timedelta(milliseconds=1)

# Copies of the application's values, so that the model finds a change of them.
LEASE = timedelta(seconds=10)
ON_TIME = timedelta(seconds=10)
TICK_INTERVAL = timedelta(seconds=2)
AHEAD = timedelta(seconds=4)
LATE_POSITIONS = 1_000
STALE = timedelta(seconds=30)
PLACES = {"buffer_one": 1, "buffer_all": 100}

Key = tuple[str, datetime] | str
"""Identifies a scheduled execution by its schedule and slot, any other one by its id."""


@dataclass(slots=True)
class ModelTrigger:
    """A trigger of the model: computes the slots."""

    type: str
    start: datetime
    """The anchor of an interval, or the slot of a one-time schedule."""
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

    def list_slots(self, first: datetime, last: datetime) -> list[datetime]:
        slots: list[datetime] = []
        slot = self.next_after(first - MILLISECOND)
        while slot is not None and slot <= last:
            slots.append(slot)
            slot = self.next_after(slot)
        return slots


@dataclass(slots=True)
class ModelSchedule:
    id: str
    trigger: ModelTrigger
    max_runs: int | None = None
    jitter: timedelta = timedelta(0)
    next_run: datetime | None = None
    runs: int = 0

    def runs_left(self) -> int | None:
        return None if self.max_runs is None else self.max_runs - self.runs

    def set_next_run(self, now: datetime) -> None:
        self.next_run = None if self.runs_left() == 0 else self.trigger.next_after(now)


@dataclass(frozen=True, slots=True)
class ModelGap:
    """A time in which nobody scheduled: the slots in (`after`, `until`] are late."""

    after: datetime
    until: datetime
    found_at: datetime


@dataclass(slots=True)
class ModelCoverage:
    """Up to which instant the scheduler has scheduled, and the gaps."""

    until: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    gaps: list[ModelGap] = field(default_factory=list)
    _ticked_at: datetime | None = None

    def keep(self, now: datetime) -> None:
        """The scheduler looks for due jobs."""
        if self._ticked_at is not None and now - self._ticked_at < TICK_INTERVAL:
            return
        if now - self.until > ON_TIME + MILLISECOND:
            self.gaps.append(ModelGap(self.until, now - ON_TIME - MILLISECOND, now))
        self.until = max(self.until, now + AHEAD)
        self._ticked_at = now

    def find_gap(self, slot: datetime) -> ModelGap | None:
        return next((gap for gap in self.gaps if gap.after < slot <= gap.until), None)


@dataclass(slots=True)
class Decision:
    """What a firing decides on the due slots of a schedule."""

    next_run: datetime | None
    missed: list[list[datetime]] = field(default_factory=list)
    runs: list[tuple[datetime, ModelGap | None]] = field(default_factory=list)


@dataclass(slots=True)
class ModelJob:
    id: str
    policy: str
    catch_up: str
    window: timedelta
    max_attempts: int
    delay: timedelta
    schedules: list[ModelSchedule]
    active: bool = True
    revision: int = 1

    def next_run(self) -> datetime | None:
        return min((s.next_run for s in self.schedules if s.next_run is not None), default=None)

    def is_due(self, now: datetime) -> bool:
        next_run = self.next_run()
        return next_run is not None and next_run <= now


@dataclass(slots=True)
class ModelExecution:
    key: Key
    job_id: str
    slot: datetime
    run_at: datetime
    run_by: datetime
    """The latest allowed `run_at`, until the one that the engine chose is known."""
    exclusive: bool = True
    """Not created under `allow_all`: its job has at most one live execution of this kind."""
    status: str = "queued"
    reason: str | None = None
    waiting: bool = False
    place: int | None = None
    """The position among the waiting executions of the job."""
    token: int = 0
    lease_owner: str | None = None
    lease_until: datetime | None = None
    cancel_requested: bool = False
    attempts: list[str | None] = field(default_factory=list)
    """Outcomes of the attempts; None for a running attempt."""
    uncounted: int = 0
    """The number of attempts that the stop of a process interrupted. They do not count."""
    missed: tuple[datetime, int] | None = None
    """For a `missed` record: the last slot that it covers, and the number of slots."""

    @property
    def is_live(self) -> bool:
        return self.exclusive and not self.waiting and self.status in UNFINISHED

    def end(self, status: str, reason: str | None = None) -> None:
        self.status, self.reason = status, reason or self.reason
        self.lease_owner = self.lease_until = self.place = None
        self.waiting = False


@dataclass(frozen=True, slots=True)
class ModelLease:
    """A worker's copy of its lease: the token, and the retry policy when the attempt began."""

    key: Key
    token: int
    max_attempts: int
    delay: timedelta
