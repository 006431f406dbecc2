"""What holds of the stored documents at any time, whatever was done: laws, not predictions.

They know neither the application nor its model, only what users asked for and when.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from tests.integration.engine.life.records import MILLISECOND, Rule
from tests.support.changes import Document
from tests.support.history import LIVE, moved_back

Documents = Mapping[str, Document]


def broken_by_executions(before: Documents, after: Documents) -> Iterator[str]:
    """Laws on two successive states of all executions."""
    for id_, execution in after.items():
        if id_ in before:
            for law in _broken_by_one(before[id_], execution):
                yield f"{law}: {before[id_]} then {execution}"
    if lost := before.keys() - after.keys():
        yield f"records are gone: {lost}"


def _broken_by_one(before: Document, after: Document) -> Iterator[str]:
    if before["status"] not in LIVE and before != after:
        yield "a final record changed"
    elif before["status"] in LIVE and after["status"] in {"skipped", "missed"}:
        yield "only at its birth may it be so"
    if after["lease_token"] < before["lease_token"]:
        yield "its token shrank"
    owners = [before.get("lease_owner"), after.get("lease_owner")]
    if owners[1] not in {None, owners[0]} and after["lease_token"] == before["lease_token"]:
        yield "its owner changed under one token"
    if (after["status"] == "running") != ("lease_until" in after):
        yield "what runs has a lease, and nothing else"
    if len(after["attempts"]) > after["lease_token"]:
        yield "more attempts than leases"
    ended = [attempt for attempt in before["attempts"] if "outcome" in attempt]
    if after["attempts"][: len(ended)] != ended:
        yield "an attempt that had ended changed"


def broken_by_overlap(executions: Iterable[tuple[Document, bool]]) -> Iterator[str]:
    """Of a job's executions not born under `allow_all` (the flag says so), one is live."""
    live = Counter(
        e["job_id"] for e, alone in executions if alone and e["status"] in LIVE and not e["held"]
    )
    yield from (f"{count} of job {id_} are live" for id_, count in live.items() if count > 1)


def broken_by_jobs(before: Documents, after: Documents) -> Iterator[str]:
    """Laws on two successive states of all jobs."""
    for id_, job in after.items():
        old = before.get(id_, job)
        if job["revision"] < old["revision"]:
            yield f"revision {old['revision']} then {job['revision']}: {job}"
        runs = {s["id"]: s["runs"] for s in job["schedules"]}
        if any(s["runs"] > runs.get(s["id"], s["runs"]) for s in old["schedules"]):
            yield f"runs {old['schedules']} then {job['schedules']}"
        if job["revision"] == old["revision"]:
            cursors = {s["id"]: s["next_run"] for s in job["schedules"]}
            for schedule in old["schedules"]:
                if moved_back(schedule["next_run"], cursors[schedule["id"]]):
                    yield f"cursor {schedule['next_run']} then {cursors[schedule['id']]}: {job}"


@dataclass(slots=True)
class Window:
    """A time in which a schedule was active under one rule."""

    schedule_id: str
    rule: Rule
    since: datetime
    until: datetime | None = None
    """None while it goes on."""
    max_runs: int | None = None


class Ledger:
    """Which slots there must be: from what users asked for, by the clock."""

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self._closed: list[Window] = []

    def opened(self, window: Window) -> None:
        self._windows[window.schedule_id] = window

    def closed(self, schedule_id: str, now: datetime) -> None:
        window = self._windows.pop(schedule_id, None)
        if window is not None:
            window.until = now
            self._closed.append(window)

    def broken_by_slots(
        self, jobs: Iterable[Document], executions: Iterable[Document]
    ) -> Iterator[str]:
        """Every slot that the cursor has passed is recorded, or counted in a `missed` record."""
        cursors = {s["id"]: s["next_run"] for job in jobs for s in job["schedules"]}
        records: dict[str, list[Document]] = {}
        for execution in executions:
            if execution["kind"] == "scheduled":
                records.setdefault(execution["schedule_id"], []).append(execution)
        for window in [*self._closed, *self._windows.values()]:
            until = window.until
            if until is None:
                cursor = cursors[window.schedule_id]
                until = None if cursor is None else cursor - MILLISECOND
            yield from _missing(window, until, records.get(window.schedule_id, []))
        self._closed = []  # judged once and for all: what is recorded stays


def _missing(window: Window, until: datetime | None, records: list[Document]) -> Iterator[str]:
    runs = [r for r in records if r["status"] not in {"skipped", "missed"}]
    if window.max_runs is not None and len(runs) > window.max_runs:
        yield f"{len(runs)} runs where {window.max_runs} are allowed: {window}"
    if window.max_runs is not None and len(runs) == window.max_runs:
        until = max(r["scheduled_for"] for r in runs)  # later ones are no slots any more
    if until is None:  # no slot is to come: a one-time schedule that has fired
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
