"""Invariants of the stored documents.

They are computed from the users' requests alone, without code of the application. They share only
the triggers with the model.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from tests.integration.engine.life.records import MILLISECOND, ModelTrigger
from tests.support.changes import Document
from tests.support.replay import UNFINISHED, has_moved_back

Documents = Mapping[str, Document]


def judge_executions(before: Documents, after: Documents) -> Iterator[str]:
    """Yield the invariants that the change from `before` to `after` violates."""
    for id_, execution in after.items():
        if id_ in before:
            for violation in _judge_execution(before[id_], execution):
                yield f"{violation}: {before[id_]} then {execution}"
    if removed := before.keys() - after.keys():
        yield f"records disappeared: {removed}"


def _judge_execution(before: Document, after: Document) -> Iterator[str]:
    if before["status"] not in UNFINISHED and before != after:
        yield "a final record changed"
    elif before["status"] in UNFINISHED and after["status"] in {"skipped", "missed"}:
        yield "it changed to skipped or missed"
    if after["lease_token"] < before["lease_token"]:
        yield "the token became smaller"
    lease_owners = [before.get("lease_owner"), after.get("lease_owner")]
    if (
        lease_owners[1] not in {None, lease_owners[0]}
        and after["lease_token"] == before["lease_token"]
    ):
        yield "the lease owner changed without a new token"
    if (after["status"] == "running") != ("lease_until" in after):
        yield "it is running without a lease, or has a lease and is not running"
    if len(after["attempts"]) > after["lease_token"]:
        yield "more attempts than leases"
    ended = [attempt for attempt in before["attempts"] if "outcome" in attempt]
    if after["attempts"][: len(ended)] != ended:
        yield "an ended attempt changed"


def judge_overlap(executions: Iterable[tuple[Document, bool]]) -> Iterator[str]:
    """Yield the jobs with more than one live execution.

    `executions`: pairs of an execution and whether it counts. Those of `allow_all` do not.
    """
    live = Counter(
        e["job_id"]
        for e, exclusive in executions
        if exclusive and e["status"] in UNFINISHED and not e["waiting"]
    )
    yield from (f"{count} live executions of job {id_}" for id_, count in live.items() if count > 1)


def judge_jobs(before: Documents, after: Documents) -> Iterator[str]:
    """Yield the invariants that the change from `before` to `after` violates."""
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
    """A period in which a schedule was active and had one trigger."""

    schedule_id: str
    trigger: ModelTrigger
    since: datetime
    until: datetime | None = None
    """None while the period lasts."""
    max_runs: int | None = None


class ExpectedSlots:
    """The slots that must be recorded, computed from the requests of users and the clock."""

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
        """Yield the slots before `next_run` that have no record and are in no `missed` record."""
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
            yield from _judge_window(window, until, records.get(window.schedule_id, []))
        # A record is never removed (judge_executions checks that), so a closed window is examined
        # once.
        self._closed = []


def _judge_window(window: Window, until: datetime | None, records: list[Document]) -> Iterator[str]:
    """Yield violations of `max_runs` and slots without a record, until `until`.

    Moves `window.since` after the examined slots.
    """
    runs = [r for r in records if r["status"] not in {"skipped", "missed"}]
    if window.max_runs is not None and len(runs) > window.max_runs:
        yield f"{len(runs)} executions, at most {window.max_runs} are allowed: {window}"
    if window.max_runs is not None and len(runs) == window.max_runs:
        until = max(r["scheduled_for"] for r in runs)  # there are no slots after max_runs
    if until is None:  # there is no next slot, because the one-time schedule has fired
        until = window.trigger.start
    covered: set[datetime] = set()
    for record in records:
        first, last = record["scheduled_for"], record.get("missed_until")
        slots = window.trigger.list_slots(first, last or first) if first > window.since else []
        covered |= set(slots)
        if last and slots and record["missed_count"] != len(slots):
            yield f"{len(slots)} slots are counted as {record['missed_count']}: {record}"
    slots = window.trigger.list_slots(window.since + MILLISECOND, until)
    if missing := sorted(set(slots) - covered):
        yield f"no record of {missing}: {window}"
    if window.until is None and window.since <= until:
        window.since = until  # a record is never removed, so these slots need no second examination
