"""Laws that the stored documents keep at any time, whatever was done.

They use neither the application nor its model, only what users asked for and when.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from tests.integration.engine.life.records import MILLISECOND, Rule
from tests.support.changes import Document
from tests.support.replay import LIVE, has_moved_back

Documents = Mapping[str, Document]


def judge_executions(before: Documents, after: Documents) -> Iterator[str]:
    """What two successive states of all executions break."""
    for id_, execution in after.items():
        if id_ in before:
            for law in _judge_execution(before[id_], execution):
                yield f"{law}: {before[id_]} then {execution}"
    if lost := before.keys() - after.keys():
        yield f"records disappeared: {lost}"


def _judge_execution(before: Document, after: Document) -> Iterator[str]:
    if before["status"] not in LIVE and before != after:
        yield "a final record changed"
    elif before["status"] in LIVE and after["status"] in {"skipped", "missed"}:
        yield "an execution is inserted as skipped or missed, never changed to it"
    if after["lease_token"] < before["lease_token"]:
        yield "the token became smaller"
    owners = [before.get("lease_owner"), after.get("lease_owner")]
    if owners[1] not in {None, owners[0]} and after["lease_token"] == before["lease_token"]:
        yield "the lease owner changed, the token did not"
    if (after["status"] == "running") != ("lease_until" in after):
        yield "an execution has a lease if and only if it runs"
    if len(after["attempts"]) > after["lease_token"]:
        yield "more attempts than leases"
    ended = [attempt for attempt in before["attempts"] if "outcome" in attempt]
    if after["attempts"][: len(ended)] != ended:
        yield "an ended attempt changed"


def judge_overlap(executions: Iterable[tuple[Document, bool]]) -> Iterator[str]:
    """A job has at most one live execution, not counting those created under `allow_all`.

    Each execution comes with whether it counts.
    """
    live = Counter(
        e["job_id"]
        for e, exclusive in executions
        if exclusive and e["status"] in LIVE and not e["waiting"]
    )
    yield from (f"{count} of job {id_} are live" for id_, count in live.items() if count > 1)


def judge_jobs(before: Documents, after: Documents) -> Iterator[str]:
    """What two successive states of all jobs break."""
    for id_, job in after.items():
        old = before.get(id_, job)
        if job["revision"] < old["revision"]:
            yield f"revision {old['revision']} then {job['revision']}: {job}"
        runs = {s["id"]: s["runs"] for s in job["schedules"]}
        if any(s["runs"] > runs.get(s["id"], s["runs"]) for s in old["schedules"]):
            yield f"runs {old['schedules']} then {job['schedules']}"
        if job["revision"] == old["revision"]:
            next_runs = {s["id"]: s["next_run"] for s in job["schedules"]}
            for schedule in old["schedules"]:
                if has_moved_back(schedule["next_run"], next_runs[schedule["id"]]):
                    yield f"next_run {schedule['next_run']} then {next_runs[schedule['id']]}: {job}"


@dataclass(slots=True)
class Window:
    """A period in which a schedule was active under one rule."""

    schedule_id: str
    rule: Rule
    since: datetime
    until: datetime | None = None
    """None while the period lasts."""
    max_runs: int | None = None


class ExpectedSlots:
    """The slots that must be recorded, by what users asked for and by the clock."""

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self._closed: list[Window] = []

    def open(self, window: Window) -> None:
        self._windows[window.schedule_id] = window

    def close(self, schedule_id: str, now: datetime) -> None:
        window = self._windows.pop(schedule_id, None)
        if window is not None:
            window.until = now
            self._closed.append(window)

    def judge_slots(
        self, jobs: Iterable[Document], executions: Iterable[Document]
    ) -> Iterator[str]:
        """Every slot before `next_run` is recorded, or counted in a `missed` record."""
        next_runs = {s["id"]: s["next_run"] for job in jobs for s in job["schedules"]}
        records: dict[str, list[Document]] = {}
        for execution in executions:
            if execution["kind"] == "scheduled":
                records.setdefault(execution["schedule_id"], []).append(execution)
        for window in [*self._closed, *self._windows.values()]:
            until = window.until
            if until is None:
                next_run = next_runs[window.schedule_id]
                until = None if next_run is None else next_run - MILLISECOND
            yield from _missing(window, until, records.get(window.schedule_id, []))
        self._closed = []  # these are never examined again: what is recorded stays


def _missing(window: Window, until: datetime | None, records: list[Document]) -> Iterator[str]:
    runs = [r for r in records if r["status"] not in {"skipped", "missed"}]
    if window.max_runs is not None and len(runs) > window.max_runs:
        yield f"{len(runs)} executions, at most {window.max_runs} are allowed: {window}"
    if window.max_runs is not None and len(runs) == window.max_runs:
        until = max(r["scheduled_for"] for r in runs)  # after max_runs there are no slots
    if until is None:  # no slot is to come: a one-time schedule fired
        until = window.rule.start
    covered: set[datetime] = set()
    for record in records:
        first, last = record["scheduled_for"], record.get("missed_until")
        slots = window.rule.through(first, last or first) if first > window.since else []
        covered |= set(slots)
        if last and slots and record["missed_count"] != len(slots):
            yield f"{len(slots)} slots are counted as {record['missed_count']}: {record}"
    slots = window.rule.through(window.since + MILLISECOND, until)
    if lost := sorted(set(slots) - covered):
        yield f"no record of {lost}: {window}"
    if window.until is None and window.since <= until:
        window.since = until  # what is recorded stays
