"""Bounds on times: the start of an execution, the promotion of a waiting one, a takeover."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.chaos.evidence import HANGING, Fault, Part
from tests.chaos.invariants.examination import FAULT_DELAY, Examination, affects
from tests.chaos.invariants.windows import (
    RECOVERY,
    find_window,
    is_disturbing,
    list_down_times,
    list_windows,
    measure_overlap,
)
from tests.chaos.limits import LEASE_SECONDS
from tests.support.changes import Document
from tests.support.history import END_OF_TIME, ExecutionLife, Span
from tests.support.replay import parse_pid

MOST_DELAY = timedelta(seconds=1)
"""99 % start within this time, if there is no fault."""

MOST_DELAY_WITHOUT_REDIS = timedelta(seconds=2)
"""The same while Redis has a fault: a wake-up between processes may take a poll interval, 1 s."""

MOST_TAKEOVER = timedelta(seconds=LEASE_SECONDS + 5)
"""Work is taken over within this time, unless the process that takes it over is hit too."""

_HERD_RATE = 300
"""Executions started per second when all jobs are due at one instant, at least."""


@dataclass(frozen=True, slots=True)
class Start:
    """An execution that was to begin, or to be promoted, at `due_at`."""

    name: str
    due_at: datetime
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Takeover:
    """The next attempt after an abandoned one."""

    name: str
    delay: timedelta
    """From the fault to the start of the attempt."""
    limit: timedelta


def check_starts(examination: Examination) -> tuple[int, Iterable[str]]:
    """Without a fault 99 % start within a second. What is due during faults, or just before one,
    starts at most 15 s after the last of them, and 99 % within the length of the longest + 15 s."""
    starts = [*list_starts(examination), *list_promotions(examination)]
    load = examination.evidence.load
    if load.jobs and not load.slots_per_second:
        limit = timedelta(seconds=load.jobs / _HERD_RATE) + RECOVERY
        return len(starts), _find_slow(starts, limit, "when all jobs are due at once")
    faults = [fault for fault in examination.evidence.faults if is_disturbing(fault)]
    proper = list_windows(faults, before=MOST_DELAY, after=timedelta(0))
    longer = list_windows(faults, before=MOST_DELAY, after=RECOVERY)
    disturbed = [start for start in starts if find_window(proper, start.due_at)]
    recovering = [
        start
        for start in starts
        if find_window(longer, start.due_at) and not find_window(proper, start.due_at)
    ]
    calm = [start for start in starts if not find_window(longer, start.due_at)]
    violations = [
        f"{start.name} was due in faults, and began {start.delay} later"
        for start in disturbed
        if (window := find_window(longer, start.due_at))
        and start.due_at + start.delay > window.until
    ]
    longest = max((fault.ended_at - fault.at for fault in faults), default=timedelta(0))
    violations += _find_slow(disturbed, longest + RECOVERY, "during faults")
    violations += _find_slow(recovering, RECOVERY, "just after faults")
    return len(starts), [*violations, *_find_slow_without_faults(examination, calm)]


def _find_slow_without_faults(examination: Examination, starts: Sequence[Start]) -> Iterator[str]:
    redis = [
        Span(fault.at, fault.ended_at + MOST_DELAY)
        for fault in examination.evidence.faults
        if fault.part is Part.REDIS
    ]
    alone = [start for start in starts if find_window(redis, start.due_at)]
    others = [start for start in starts if not find_window(redis, start.due_at)]
    yield from _find_slow(others, MOST_DELAY, "without a fault")
    yield from _find_slow(alone, MOST_DELAY_WITHOUT_REDIS, "without Redis")


def _find_slow(starts: Sequence[Start], limit: timedelta, when: str) -> list[str]:
    """Return all slow starts if they are more than 1 %."""
    slow = [start for start in starts if start.delay > limit]
    if 100 * len(slow) <= len(starts):
        return []
    return [f"{s.name} was due at {s.due_at}, and began {s.delay} later {when}" for s in slow]


def list_starts(examination: Examination) -> Iterator[Start]:
    """Yield when each execution was to begin, and how much later its first request arrived."""
    for execution in examination.evidence.executions:
        if _may_wait_for_its_share(examination, execution):
            continue
        due_at = _find_due_time(execution, examination.lives.get(execution["_id"]))
        received = examination.deliveries.get(execution["_id"])
        if due_at is None or not (received or execution["attempts"]):
            continue
        began: datetime = (
            received[0].received_at if received else execution["attempts"][0]["started_at"]
        )
        yield Start(execution["_id"], due_at, began - due_at)


def _may_wait_for_its_share(examination: Examination, execution: Document) -> bool:
    """Whether the owner of the execution may want more slots than its share: its receivers never
    respond."""
    definitions = examination.list_definitions(execution)
    return any(one.behaviour == HANGING for one in definitions)


def _find_due_time(execution: Document, life: ExecutionLife | None) -> datetime | None:
    """Return when an execution was to begin, or None if that is not known.

    `run_at` of its insertion contains jitter; another invariant judges it. One that waited begins
    when it is promoted.
    """
    if life is None:
        slot: datetime = execution["scheduled_for"]
        return slot if execution["kind"] == "scheduled" else None
    due_at: datetime = life.inserted["run_at"]
    ended = [span.until for span in life.waiting if span.until != END_OF_TIME]
    return max(due_at, *ended) if ended else due_at


def list_promotions(examination: Examination) -> Iterator[Start]:
    """Yield since when each waiting execution could have been promoted."""
    for life in examination.lives.values():
        for span in life.waiting:
            if any(live.since == span.until for live in life.live):
                others = examination.list_others(life.inserted | {"_id": life.id})
                ends = [live.until for other in others for live in other.live]
                free_at = max([span.since, *(end for end in ends if end <= span.until)])
                yield Start(f"the promotion of {life.id}", free_at, span.until - free_at)


def check_takeovers(examination: Examination) -> tuple[int, Iterable[str]]:
    takeovers = list(list_takeovers(examination))
    return len(takeovers), [
        f"{one.name} was taken over after {one.delay}, not {one.limit}"
        for one in takeovers
        if one.delay > one.limit
    ]


def list_takeovers(examination: Examination) -> Iterator[Takeover]:
    evidence = examination.evidence
    down = list(list_down_times(evidence.faults, evidence.load.processes))
    for execution, attempt, fault in examination.list_abandoned():
        following = execution["attempts"][attempt["number"] :]
        if fault is None or not following:
            continue
        began: datetime = following[0]["started_at"]
        span = Span(max(fault.at, attempt["started_at"]), began)
        hit = _count_hit_successors(examination, execution, span)
        limit = MOST_TAKEOVER * (1 + hit) + measure_overlap(down, span.since, span.until)
        if any(_is_outage(one, span) for one in evidence.faults):
            limit += RECOVERY
        yield Takeover(execution["_id"], began - span.since, limit)


def _count_hit_successors(examination: Examination, execution: Document, span: Span) -> int:
    """Count the processes that claimed the execution after the fault and were hit themselves."""
    life = examination.lives.get(execution["_id"])
    claims = [c for c in life.claims if span.since < c.at <= span.until] if life else []
    return sum(
        any(
            affects(fault, parse_pid(claim.lease_owner))
            and Span(fault.at, fault.ended_at).meets(
                claim.at - FAULT_DELAY, claim.at + MOST_TAKEOVER
            )
            for fault in examination.evidence.faults
        )
        for claim in claims[:-1]
    )


def _is_outage(fault: Fault, span: Span) -> bool:
    return fault.part is Part.DATABASE and Span(fault.at, fault.ended_at).meets(
        span.since, span.until
    )
