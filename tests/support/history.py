"""What each execution and each job was at each instant, computed from the changes."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.support.changes import Change, Document

_CONTENTS = ("headers", "body", "truncated", "truncated_reason")
"""The fields of a response that trimming changes."""

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """A period, including both ends."""

    since: datetime
    until: datetime = END_OF_TIME

    def meets(self, since: datetime, until: datetime) -> bool:
        return self.since <= until and since <= self.until


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease that an execution was given."""

    at: datetime
    lease_owner: str
    token: int


@dataclass(slots=True)
class ExecutionLife:
    """One execution from its insertion on."""

    id: str
    inserted_at: datetime
    inserted: Document
    """As it was inserted."""
    live: list[Span] = field(default_factory=list)
    """When it carried `live_for`."""
    waiting: list[Span] = field(default_factory=list)
    """When it waited for another execution of its job."""
    claims: list[Claim] = field(default_factory=list)
    changed_after_end: bool = False
    """Whether a write changed it after it was final."""

    @property
    def job_id(self) -> str:
        job_id: str = self.inserted["job_id"]
        return job_id


@dataclass(frozen=True, slots=True)
class JobVersion:
    """A job from one change to the next one."""

    at: datetime
    document: Document

    @property
    def revision(self) -> int:
        revision: int = self.document.get("revision", 1)
        return revision


class History:
    """The lives of all executions and the versions of all jobs.

    A document that was inserted before the first change is not known. If a document is inserted
    again with the same id, the earlier one is forgotten.
    """

    def __init__(self, changes: Iterable[Change]) -> None:
        self.executions: dict[str, ExecutionLife] = {}
        self.by_job: dict[str, list[ExecutionLife]] = {}
        self.jobs: dict[str, list[JobVersion]] = {}
        self.deleted_at: dict[str, datetime] = {}
        """When each deleted job was deleted."""
        self._present: dict[str, Document] = {}
        for change in changes:
            if change.collection == "executions":
                self._apply_execution(change)
            elif change.collection == "jobs":
                self._apply_job(change)

    def _apply_execution(self, change: Change) -> None:
        if change.operation == "insert":
            life = ExecutionLife(change.id, change.at, copy.deepcopy(change.fields))
            self.executions[change.id] = life
            self.by_job.setdefault(life.job_id, []).append(life)
        elif change.id not in self.executions or change.operation == "delete":
            return
        before = self._present.get(change.id, {})
        after = self._present[change.id] = apply_change(before, change)
        _follow(self.executions[change.id], before, after, change.at)

    def _apply_job(self, change: Change) -> None:
        if change.operation == "insert":
            self.jobs[change.id] = [JobVersion(change.at, copy.deepcopy(change.fields))]
        elif change.operation == "delete":
            self.deleted_at[change.id] = change.at
        elif versions := self.jobs.get(change.id):
            versions.append(JobVersion(change.at, apply_change(versions[-1].document, change)))


def _follow(life: ExecutionLife, before: Document, after: Document, at: datetime) -> None:
    """Add what the change from `before` to `after` tells about the execution."""
    if before.get("finished_at") is not None and not _is_trimmed(before, after):
        life.changed_after_end = True
    _extend(life.live, at, is_on=after.get("live_for") is not None)
    _extend(life.waiting, at, is_on=bool(after.get("waiting")) and after["status"] == "queued")
    token = after.get("lease_token", 0)
    if after["status"] == "running" and token != before.get("lease_token"):
        life.claims.append(Claim(at, after.get("lease_owner") or "", token))


def _is_trimmed(before: Document, after: Document) -> bool:
    """Whether a change of a final execution, if any, only dropped headers and bodies of responses.

    Retention drops those of older executions, and marks each response of which it drops something.
    """
    old, new = _list_responses(before), _list_responses(after)
    return _without_contents(before) == _without_contents(after) and all(
        a == b or (b["headers"] == [] and b["body"] == "" and b["truncated"])
        for a, b in zip(old, new, strict=True)
    )


def _list_responses(execution: Document) -> list[Document]:
    responses = [attempt.get("response") for attempt in execution.get("attempts", [])]
    return [response for response in responses if response is not None]


def _without_contents(execution: Document) -> Document:
    attempts = [
        attempt | {"response": _omit(attempt.get("response") or {}, *_CONTENTS)}
        for attempt in execution.get("attempts", [])
    ]
    return _omit(execution, "response_bytes") | {"attempts": attempts}


def _omit(document: Document, *names: str) -> Document:
    return {name: value for name, value in document.items() if name not in names}


def _extend(spans: list[Span], at: datetime, *, is_on: bool) -> None:
    """Begin or end a span, if that is a change."""
    was_on = bool(spans) and spans[-1].until == END_OF_TIME
    if is_on and not was_on:
        spans.append(Span(at))
    elif was_on and not is_on:
        spans[-1] = Span(spans[-1].since, at)


def apply_change(before: Document, change: Change) -> Document:
    """Return the document after the change. It shares the parts that did not change."""
    if change.operation != "update":
        return copy.deepcopy(change.fields)
    after = dict(before)
    for path, length in change.truncated:
        holder, key = _open(after, path)
        holder[key] = list(holder[key])[:length]
    for path, value in change.fields.items():
        holder, key = _open(after, path)
        if isinstance(holder, list) and key == len(holder):
            holder.append(value)
        else:
            holder[key] = value
    for path in change.removed:
        holder, key = _open(after, path)
        holder.pop(key, None)
    return after


def _open(document: Document, path: str) -> tuple[Any, Any]:
    """Return the object that holds the last step of `path`, and this step.

    Copies each object on the way, because other versions of the document share it.
    """
    *steps, last = path.split(".")
    holder: Any = document
    for step in steps:
        key: Any = int(step) if isinstance(holder, list) else step
        held = holder[key] if isinstance(holder, list) else holder.get(key, {})
        holder[key] = list(held) if isinstance(held, list) else dict(held)
        holder = holder[key]
    return holder, int(last) if isinstance(holder, list) else last
