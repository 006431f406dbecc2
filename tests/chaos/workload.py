"""The jobs of a chaos run: which definitions the driver creates, and how it edits them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.chaos.evidence import (
    UNRESOLVED,
    Behaviour,
    JobDefinition,
    ScheduleDefinition,
    ScheduleType,
)
from tests.chaos.limits import SILENT_DOMAIN
from tests.chaos.schedule_keys import make_cron_expression

_SECOND = timedelta(seconds=1)
_EDITED_PERIODS = (2, 3, 4, 5)
"""Seconds. Each divides a minute, so that a cron schedule may have it."""
_MOST_SCHEDULES = 4

_HTTP_RETRIES = ("timeout", "connection_error", "5xx")
_SLOW_POLICIES = (
    *("skip", "buffer_one", "buffer_all"),
    *("cancel_other", "terminate_other", "allow_all"),
)
KINDS: tuple[JobDefinition, ...] = (
    JobDefinition(),
    JobDefinition(overlap_policy="allow_all"),
    JobDefinition(behaviour=Behaviour.FLAKY),
    JobDefinition(behaviour=Behaviour.LARGE),
    JobDefinition(behaviour=Behaviour.FAILING, max_attempts=3),
    JobDefinition(behaviour=Behaviour.REJECTING, retry_on=_HTTP_RETRIES),
    # The window of `one` is longer than the period, so that one late slot is always executed.
    JobDefinition(catch_up="none", overlap_policy="allow_all"),
    JobDefinition(catch_up="one", window=5 * _SECOND, overlap_policy="allow_all"),
    JobDefinition(catch_up="all", window=8 * _SECOND, overlap_policy="allow_all"),
    *(JobDefinition(overlap_policy=one, behaviour=Behaviour.SLOW) for one in _SLOW_POLICIES),
)
"""Jobs with one interval. The workload gives every other one of them another kind of schedule."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How many jobs there are, and how often each is due."""

    jobs: int = 100
    period: timedelta = 2 * _SECOND
    paths: Sequence[str] = ()
    """Paths at which the receiver misbehaves. For each another user has two more jobs."""
    silent_names: int = 0
    """Jobs of the other user whose receiver has a name that no DNS server resolves, each another
    one."""
    large: bool = False
    """Whether each job that has no other behaviour gets responses of 64 KB."""

    @property
    def first_jobs(self) -> int:
        """How many jobs are created before the faults."""
        return self.jobs + 2 * len(self.paths) + self.silent_names

    @property
    def slots_per_second(self) -> float:
        """A floor: without the second schedules and without those that end."""
        lasting = sum(_choose_ending(n) is None for n in range(self.first_jobs))
        return lasting / self.period.total_seconds()

    @property
    def behaviours(self) -> tuple[str, ...]:
        now = datetime.now(UTC)
        kinds = {self.define(number, now).behaviour for number in range(self.jobs)}
        return (*sorted(kinds), *dict.fromkeys(self.paths))

    def is_hostile(self, number: int) -> bool:
        """Whether the job belongs to the other user."""
        return self.jobs <= number < self.first_jobs

    def define(self, number: int, now: datetime) -> JobDefinition:
        """Return the definition of a job. The anchors spread all slots evenly over the period."""
        share = (number % self.jobs) / self.jobs
        offset = timedelta(milliseconds=int(self.period / (_SECOND / 1000) * share))
        # The anchor is in the past, so that the first slot is due within one period.
        anchor = now.replace(microsecond=0) - timedelta(hours=1) + offset
        first = ScheduleDefinition(period=self.period, anchor=anchor)
        if self.is_hostile(number):
            return self._define_hostile(number - self.jobs, first)
        job = KINDS[number % len(KINDS)]
        if self.large and job.behaviour == Behaviour.PLAIN:
            job = replace(job, behaviour=Behaviour.LARGE)
        schedules = _vary(number, first, now)
        return replace(job, schedules=schedules, description=f"version 0 of {number}")

    def _define_hostile(self, number: int, schedule: ScheduleDefinition) -> JobDefinition:
        paths = [path for path in self.paths for _ in range(2)]
        behaviour = paths[number] if number < len(paths) else UNRESOLVED
        policy = "skip" if number % 2 else "allow_all"
        return JobDefinition(
            schedules=(schedule,), behaviour=behaviour, max_attempts=3, overlap_policy=policy
        )


def _choose_ending(number: int) -> int | None:
    """Return `max_runs` of a job's schedule: one job in sixteen has it."""
    return 10 if number % 16 == 15 else None


def _vary(number: int, first: ScheduleDefinition, now: datetime) -> tuple[ScheduleDefinition, ...]:
    """Return the schedules of a job: an interval, which may have jitter or an end, or cron; with it
    may be a one-time schedule or another interval. 16 and the number of kinds have no common
    factor, so each kind gets each variation."""
    first = replace(first, max_runs=_choose_ending(number))
    match number % 16:
        case 1 | 5 | 9:
            return (replace(first, type=ScheduleType.CRON, anchor=None),)
        case 3 | 7:
            return (replace(first, jitter=_SECOND),)
        case 11:
            soon = now.replace(microsecond=123_000) + 15 * _SECOND
            return (first, ScheduleDefinition(key="b", type=ScheduleType.ONE_TIME, run_at=soon))
        case 13:
            assert first.anchor is not None
            other = ScheduleDefinition(
                key="b", period=5 * _SECOND, anchor=first.anchor + 0.001 * _SECOND
            )
            return (first, other)
    return (first,)


def choose_edit(job: JobDefinition, random: Random, number: int, now: datetime) -> JobDefinition:
    """Return the job with another period, a schedule more or less, or one switched on or off.

    `number` is new in each edit of the run.
    """
    changed = replace(job, description=f"edit {number}")
    [first, *others] = job.schedules
    match random.choice(["period", "period", "add", "remove", "switch"]):
        case "add" if len(job.schedules) < _MOST_SCHEDULES:
            # The anchor makes the rule another one than that of each schedule of the job.
            anchor = now.replace(microsecond=1_000 * (number % 1_000)) - 60 * _SECOND
            added = ScheduleDefinition(key=f"edit {number}", period=3 * _SECOND, anchor=anchor)
            return replace(changed, schedules=(*job.schedules, added))
        case "remove" if others:
            return replace(changed, schedules=job.schedules[:-1])
        case "switch":
            switched = replace(first, active=not first.active)
            return replace(changed, schedules=(switched, *others))
    period = random.choice(_EDITED_PERIODS) * _SECOND
    return replace(changed, schedules=(replace(first, period=period), *others))


def make_body(
    name: str, job: JobDefinition, *, url: str, ids: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the body of a request that creates the job, or changes all its fields.

    `ids`: the ids of its schedules, as far as they are known, by their keys.
    """
    if job.behaviour == UNRESOLVED:
        url = f"http://{name.replace(' ', '-')}{SILENT_DOMAIN}"
    body: dict[str, Any] = {
        "name": name,
        "description": job.description,
        "target": {"type": "http", "url": f"{url}/{job.behaviour}"},
        "timeout_seconds": job.timeout.total_seconds(),
        "overlap_policy": job.overlap_policy,
        "catch_up": {"policy": job.catch_up, "window_seconds": int(job.window.total_seconds())},
        "retry": {
            "max_attempts": job.max_attempts,
            "strategy": "fixed",
            "delay_seconds": job.retry_delay.total_seconds(),
        },
        "schedules": [_make_schedule(one, (ids or {}).get(one.key)) for one in job.schedules],
    }
    if job.retry_on is not None:
        body["retry"]["retry_on"] = list(job.retry_on)
    return body


def _make_schedule(schedule: ScheduleDefinition, id_: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": schedule.type,
        "active": schedule.active,
        "jitter_seconds": int(schedule.jitter.total_seconds()),
        "max_runs": schedule.max_runs,
    }
    if id_ is not None:
        body["id"] = id_
    match schedule:
        case ScheduleDefinition(type=ScheduleType.ONE_TIME, run_at=datetime() as run_at):
            return body | {"run_at": run_at.isoformat()}
        case ScheduleDefinition(type=ScheduleType.CRON, period=timedelta() as period):
            return body | {"cron_expression": make_cron_expression(period), "seconds": True}
        case ScheduleDefinition(period=timedelta() as period, anchor=datetime() as anchor):
            start_at = anchor.isoformat()
            return body | {"interval_seconds": int(period.total_seconds()), "start_at": start_at}
    raise ValueError(f"the schedule is not complete: {schedule}")
