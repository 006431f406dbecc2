"""Laws on the history of the stored documents: on every single change, in the database's order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from tests.support.changes import Change, Document

LIVE = {"queued", "running"}
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
"""Written down again: the application's own table is what is being checked."""

_FINAL_AT_BIRTH = {"skipped", "missed"}


@dataclass(slots=True)
class _Life:
    """An execution as the changes left it."""

    job_id: str
    status: str
    token: int
    alone: bool
    owner: str = ""
    attempt_tokens: list[int] = field(default_factory=list)


class Replay:
    """Goes through the changes once and notes what contradicts an invariant."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self.moves: list[str] = []
        self.tokens: list[str] = []
        self.live: list[str] = []
        self.cursors: list[str] = []
        self.executions = 0
        self.cursor_moves = 0
        self.owners: dict[tuple[str, int], str] = {}
        """Who made an attempt, by execution and number."""
        self._lives: dict[str, _Life] = {}
        self._running: dict[str, set[str]] = {}
        self._cursors: dict[str, tuple[int, datetime | None]] = {}
        for change in changes:
            if change.collection == "executions":
                self._execution(change)
            elif change.collection == "jobs":
                self._job(change)

    def _execution(self, change: Change) -> None:
        if change.operation == "insert":
            self._born(change)
            return
        life = self._lives.get(change.id)
        if life is None or change.operation != "update":
            return
        self._token(life, change)
        self._attempts(life, change)
        status = change.fields.get("status", life.status)
        if status != life.status:
            self._moved(life, change, status)

    def _born(self, change: Change) -> None:
        self.executions += 1
        fields = change.fields
        alone = fields.get("live_for") is not None or fields.get("held", False)
        status = fields["status"]
        self._lives[change.id] = _Life(fields["job_id"], status, fields["lease_token"], alone)
        if status not in {"queued", *_FINAL_AT_BIRTH}:
            self.moves.append(f"{change.id} was born {status}")

    def _token(self, life: _Life, change: Change) -> None:
        token = change.fields.get("lease_token", life.token)
        if token < life.token:
            self.tokens.append(f"{change.id}: token {life.token}, then {token}")
        claimed = change.fields.get("status") == "running"
        if claimed and token <= life.token:
            self.tokens.append(f"{change.id} was claimed without a new token")
        owner = change.fields.get("lease_owner")
        if owner is not None and not claimed:
            self.tokens.append(f"{change.id} went to {owner} without a claim")
        life.token = token
        life.owner = owner or life.owner

    def _attempts(self, life: _Life, change: Change) -> None:
        """A new attempt comes as `attempts.N`, or as the whole list where it was empty."""
        for number in _new_attempts(change.fields, len(life.attempt_tokens)):
            if life.token in life.attempt_tokens:
                self.tokens.append(f"{change.id}: attempt {number} is the second of its token")
            life.attempt_tokens.append(life.token)
            self.owners[change.id, number] = life.owner

    def _moved(self, life: _Life, change: Change, status: str) -> None:
        if (life.status, status) not in MOVES:
            self.moves.append(f"{change.id}: {life.status} → {status}")
        life.status = status
        if not life.alone:
            return
        running = self._running.setdefault(life.job_id, set())
        if status == "running":
            if running:
                self.live.append(f"{change.id} runs beside {', '.join(sorted(running))}")
            running.add(change.id)
        else:
            running.discard(change.id)

    def _job(self, change: Change) -> None:
        if change.operation == "insert":
            self._cursors[change.id] = (change.fields["revision"], change.fields["next_run"])
            return
        seen = self._cursors.get(change.id)
        if seen is None or change.operation != "update":
            return
        revision, cursor = seen
        new_revision = change.fields.get("revision", revision)
        new_cursor = change.fields.get("next_run", cursor)
        self.cursor_moves += new_cursor != cursor
        if new_revision < revision:
            self.cursors.append(f"{change.id}: revision {revision}, then {new_revision}")
        if new_revision == revision and moved_back(cursor, new_cursor):
            self.cursors.append(f"{change.id}: next_run {cursor}, then {new_cursor}")
        self._cursors[change.id] = (new_revision, new_cursor)


def _new_attempts(fields: Document, known: int) -> Iterator[int]:
    if "attempts" in fields:
        yield from range(known + 1, len(fields["attempts"]) + 1)
    elif f"attempts.{known}" in fields:
        yield known + 1


def moved_back(before: datetime | None, after: datetime | None) -> bool:
    """Whether a `next_run` became earlier. None is later than every slot: no slot is to come."""
    return after is not None and (before is None or after < before)


def pid_of(owner: str) -> int | None:
    """A lease owner is named `machine-pid-random`."""
    parts = owner.rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else None


def judge_history(replay: Replay) -> list[tuple[str, int, list[str]]]:
    """Name, number examined and violations of each invariant."""
    return [
        ("only legal moves", replay.executions, replay.moves),
        ("tokens grow, one attempt each", replay.executions, replay.tokens),
        ("one live lease a job", replay.executions, replay.live),
        ("next_run never back", replay.cursor_moves, replay.cursors),
    ]
