"""The periods in which faults disturb a run."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from tests.chaos.evidence import Fault, Part
from tests.support.history import Span

RECOVERY = timedelta(seconds=15)
"""The time after the end of a fault within which all work continues."""


def is_disturbing(fault: Fault) -> bool:
    """Whether a fault may stop work. Without Redis, or with a wrong wall clock, nothing stops."""
    return fault.part is not Part.REDIS and not fault.name.startswith("clock ")


def list_windows(faults: Iterable[Fault], *, before: timedelta, after: timedelta) -> list[Span]:
    """Return the periods of disturbing faults, each longer by these times. Those that overlap are
    joined."""
    return merge(Span(f.at - before, f.ended_at + after) for f in faults if is_disturbing(f))


def merge(spans: Iterable[Span]) -> list[Span]:
    """Join spans that overlap."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda one: one.since):
        if merged and span.since <= merged[-1].until:
            merged[-1] = Span(merged[-1].since, max(merged[-1].until, span.until))
        else:
            merged.append(span)
    return merged


def find_window(windows: Iterable[Span], at: datetime) -> Span | None:
    return next((window for window in windows if window.meets(at, at)), None)


def list_down_times(faults: Iterable[Fault], processes: int) -> Iterator[Span]:
    """Yield the periods in which the database, or every process of the service, was disturbed."""
    faults = list(faults)
    yield from (Span(f.at, f.ended_at) for f in faults if f.part is Part.DATABASE)
    ends: list[tuple[datetime, int]] = []
    for fault in faults:
        if fault.part is Part.SERVICE and is_disturbing(fault):
            ends += [(fault.at, 1), (fault.ended_at, -1)]
    down, since = 0, None
    for at, step in sorted(ends):
        down += step
        if down >= processes and since is None:
            since = at
        elif down < processes and since is not None:
            yield Span(since, at)
            since = None


def measure_overlap(spans: Iterable[Span], since: datetime, until: datetime) -> timedelta:
    """Return how much of the period lies in any of the spans."""
    total = timedelta(0)
    for span in merge(spans):
        total += max(timedelta(0), min(span.until, until) - max(span.since, since))
    return total
