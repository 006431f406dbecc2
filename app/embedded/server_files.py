"""Files by which processes coordinate the use of one server. They are next to the server's folder.

`NAME.lock` is locked while the server is started or stopped. Each process that uses the server is a
client and holds a shared lock on `NAME.users`. The server itself holds a lock on `NAME.alive`. The
kernel releases these locks when a process ends, even after kill -9. `NAME.json` contains the
server's port and pid and how it was started, `NAME.log` its output.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import IO

from app.errors import ConfigurationError

_PAUSE = timedelta(milliseconds=50)
_LOCK_LIMIT = timedelta(seconds=180)
"""The longest wait for the lock: 120 s for a stop (SIGTERM, then SIGKILL) and 60 s for one try of a
start by another process."""
_LOG_LIMIT_BYTES = 10_000_000
_PROTECTED = 1
"""The value in the record of a server that requires a password. Earlier releases started servers
without one, and recorded nothing."""
_RECORDED = {"port": range(65_536), "pid": range(1, 2**31), "protected": range(_PROTECTED + 1)}


@dataclass(frozen=True)
class ServerFiles:
    """The coordination files of the server whose data are in `folder`."""

    folder: Path

    def path(self, suffix: str) -> Path:
        return self.folder.parent / f"{self.folder.name}.{suffix}"

    @contextmanager
    def lock_start_and_stop(self) -> Iterator[None]:
        """Hold the lock under which the server is started and stopped.

        Raises ConfigurationError if another process holds it for longer than `_LOCK_LIMIT`.
        """
        for _ in retry_for(_LOCK_LIMIT):
            lock = _lock(self.path("lock"), LOCK_EX)
            if lock is not None:
                break
        else:
            raise ConfigurationError(
                f"Another process has locked {self.path('lock')} for "
                f"{_LOCK_LIMIT.total_seconds():g} seconds."
                " End that process, then start again."
            )
        try:
            yield
        finally:
            os.close(lock)

    @contextmanager
    def try_lock_start_and_stop(self) -> Iterator[bool]:
        """Hold the same lock if nobody else holds it, and yield whether that is so."""
        lock = _lock(self.path("lock"), LOCK_EX)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                os.close(lock)

    def lock_as_client(self) -> int:
        """Lock `NAME.users` as one more client and return the descriptor that holds the lock.

        The caller holds the lock of `lock_start_and_stop`. Raises ConfigurationError.
        """
        return self._lock_or_raise("users", LOCK_SH)

    def lock_as_server(self) -> int:
        """Lock `NAME.alive` and return the descriptor, which the server inherits.

        Raises ConfigurationError.
        """
        return self._lock_or_raise("alive", LOCK_EX)

    def has_clients(self) -> bool:
        return _is_locked(self.path("users"))

    def is_alive(self) -> bool:
        return _is_locked(self.path("alive"))

    def read_record(self) -> dict[str, int]:
        """Return the recorded `port` and `pid` of the last server. A value that was not recorded,
        or is none that was, is absent."""
        try:
            record = json.loads(self.path("json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        given = record.items() if isinstance(record, dict) else ()
        return {k: v for k, v in given if type(v) is int and v in _RECORDED.get(k, ())}

    def is_protected(self) -> bool:
        """Whether the last server was started by a release whose servers require a password."""
        return self.read_record().get("protected") == _PROTECTED

    def write_record(self, **record: int) -> None:
        temporary = self.path("json.new")
        text = json.dumps(record | {"protected": _PROTECTED})
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path("json"))

    def open_log(self) -> IO[bytes]:
        """Open the server's log for appending. A log over the limit is renamed first. Only the
        current user can read it, because mongod logs slow queries with their values."""
        path = self.path("log")
        if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(self.path("log.1"))
        log = path.open("ab")
        os.fchmod(log.fileno(), 0o600)
        return log

    def limit_log(self) -> None:
        """Move the newest part of a log over the limit to `NAME.log.1` while the server runs.

        The server appends to its open file, so the file is emptied, not renamed.
        """
        path = self.path("log")
        size = path.stat().st_size
        if size <= _LOG_LIMIT_BYTES:
            return
        with path.open("rb") as log:
            log.seek(size - _LOG_LIMIT_BYTES)
            newest = log.read(_LOG_LIMIT_BYTES)
        descriptor = os.open(self.path("log.1"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as kept:
            kept.write(newest)
        os.truncate(path, 0)

    def _lock_or_raise(self, suffix: str, kind: int) -> int:
        lock = _lock(self.path(suffix), kind)
        if lock is None:
            raise ConfigurationError(
                f"{self.path(suffix)} is locked by a process that is not part of Carillon."
                " End that process, then start again."
            )
        return lock


def retry_for(limit: timedelta) -> Iterator[None]:
    """Yield once per try, with a pause of 50 ms after each, for about `limit`."""
    for _ in range(limit // _PAUSE):
        yield
        time.sleep(_PAUSE.total_seconds())


def _lock(path: Path, kind: int) -> int | None:
    """Lock `path` and return the descriptor that holds the lock; None if it is locked already.

    The lock lasts until the descriptor is closed. Child processes do not inherit it by default.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        flock(descriptor, kind | LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_locked(path: Path) -> bool:
    descriptor = _lock(path, LOCK_EX)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False
