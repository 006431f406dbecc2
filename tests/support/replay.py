"""Checks every change of the stored documents, in the order of the database."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tests.support.changes import Change, Document
from tests.support.history import History, JobVersion

UNFINISHED = {"queued", "running"}
"""Statuses of executions that have not ended."""

MOVES = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("running", "queued"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "timed_out"),
    ("running", "cancelled"),
}
"""A copy of the application's table, so that an error in one of them is found."""

_FINAL_WHEN_INSERTED = {"skipped", "missed"}

_REPLACED_WHEN_INSERTED = {"cancelled_by_overlap", "terminated_by_overlap", "replaced_by_newer"}
"""Reasons of executions that are `cancelled` when they are inserted: a newer slot of the job was
recorded at the same time."""


@dataclass(slots=True)
class _State:
    """An execution after the changes so far."""

    job_id: str
    status: str
    token: int
    exclusive: bool
    lease_owner: str = ""
    attempt_tokens: list[int] = field(default_factory=list)


class Replay:
    """Reads the changes once and collects the violations."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self.move_errors: list[str] = []
        self.token_errors: list[str] = []
        self.overlap_errors: list[str] = []
        self.next_run_errors: list[str] = []
        self.execution_count = 0
        self.next_run_change_count = 0
        changes = list(changes)
        self.history = History(changes)
        self.lease_owners: dict[tuple[str, int], str] = {}
        """The lease owner of each attempt, by execution and number."""
        self._executions: dict[str, _State] = {}
        self._running: dict[str, set[str]] = {}
        for change in changes:
            if change.collection == "executions":
                self._apply_execution(change)
        self.final_errors = [
            f"{life.id} changed after its end"
            for life in self.history.executions.values()
            if life.changed_after_end
        ]
        for id_, versions in self.history.jobs.items():
            self._compare_versions(id_, versions)

    def _apply_execution(self, change: Change) -> None:
        if change.operation == "insert":
            self._apply_insert(change)
            return
        state = self._executions.get(change.id)
        if state is None or change.operation != "update":
            return
        self._apply_token(state, change)
        self._apply_attempts(state, change)
        status = change.fields.get("status", state.status)
        if status != state.status:
            self._apply_status(state, change, status)

    def _apply_insert(self, change: Change) -> None:
        self.execution_count += 1
        fields = change.fields
        exclusive = fields.get("live_for") is not None or fields.get("waiting", False)
        status = fields["status"]
        self._executions[change.id] = _State(
            fields["job_id"], status, fields["lease_token"], exclusive
        )
        replaced = status == "cancelled" and fields.get("reason") in _REPLACED_WHEN_INSERTED
        if status not in {"queued", *_FINAL_WHEN_INSERTED} and not replaced:
            self.move_errors.append(f"{change.id} was inserted as {status}")

    def _apply_token(self, state: _State, change: Change) -> None:
        token = change.fields.get("lease_token", state.token)
        if token < state.token:
            self.token_errors.append(f"{change.id}: token {state.token}, then {token}")
        claimed = change.fields.get("status") == "running"
        if claimed and token <= state.token:
            self.token_errors.append(f"{change.id} was claimed without a new token")
        lease_owner = change.fields.get("lease_owner")
        if lease_owner is not None and not claimed:
            self.token_errors.append(
                f"{change.id} got the lease owner {lease_owner} without a claim"
            )
        state.token = token
        state.lease_owner = lease_owner or state.lease_owner

    def _apply_attempts(self, state: _State, change: Change) -> None:
        """Record the new attempts. One is stored as `attempts.N`, or as the whole list if it was
        empty."""
        for number in _new_attempts(change.fields, len(state.attempt_tokens)):
            if state.token in state.attempt_tokens:
                self.token_errors.append(
                    f"{change.id}: attempt {number} is the second one with its token"
                )
            state.attempt_tokens.append(state.token)
            self.lease_owners[change.id, number] = state.lease_owner

    def _apply_status(self, state: _State, change: Change, status: str) -> None:
        if (state.status, status) not in MOVES:
            self.move_errors.append(f"{change.id}: {state.status} → {status}")
        state.status = status
        if not state.exclusive:
            return
        running = self._running.setdefault(state.job_id, set())
        if status == "running":
            if running:
                self.overlap_errors.append(f"{change.id} runs beside {', '.join(sorted(running))}")
            running.add(change.id)
        else:
            running.discard(change.id)

    def _compare_versions(self, id_: str, versions: Sequence[JobVersion]) -> None:
        """Compare the `next_run` of the job and of each schedule before and after each change."""
        for one, following in itertools.pairwise(versions):
            before, after = _list_next_runs(one.document), _list_next_runs(following.document)
            self.next_run_change_count += before != after
            if following.revision < one.revision:
                self.next_run_errors.append(
                    f"{id_}: revision {one.revision}, then {following.revision}"
                )
            if following.revision != one.revision:
                continue
            self.next_run_errors += [
                f"{id_}, {name}: next_run {before[name]}, then {after[name]}"
                for name in before.keys() & after.keys()
                if has_moved_back(before[name], after[name])
            ]


def _list_next_runs(job: Document) -> dict[str, datetime | None]:
    """Return the `next_run` of the job and of each schedule."""
    schedules = {f"schedule {s['id']}": s.get("next_run") for s in job.get("schedules", ())}
    return {"the job": job.get("next_run")} | schedules


def _new_attempts(fields: Document, known: int) -> Iterator[int]:
    if "attempts" in fields:
        yield from range(known + 1, len(fields["attempts"]) + 1)
    elif f"attempts.{known}" in fields:
        yield known + 1


def has_moved_back(before: datetime | None, after: datetime | None) -> bool:
    """Return whether a `next_run` became earlier. None means that there is no further slot."""
    return after is not None and (before is None or after < before)


def parse_pid(lease_owner: str) -> int | None:
    """Return the process id in a lease owner `machine-pid-random`, or None for another form."""
    parts = lease_owner.rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else None


def judge_history(replay: Replay) -> list[tuple[str, int, list[str]]]:
    """Return the name, the number of examined items and the violations of each invariant."""
    return [
        ("only legal moves", replay.execution_count, replay.move_errors),
        (
            "tokens grow, and each has at most one attempt",
            replay.execution_count,
            replay.token_errors,
        ),
        ("one live lease per job", replay.execution_count, replay.overlap_errors),
        ("next_run never moves back", replay.next_run_change_count, replay.next_run_errors),
        ("no final record changes", replay.execution_count, replay.final_errors),
    ]
