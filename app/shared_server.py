"""One server process that the processes of a data directory share.

A server belongs to the data directory, not to the process that started it. Every process that uses
it holds a shared lock on `NAME.users`, which the kernel drops even at kill -9; starting and
stopping happen under `NAME.lock`, and whoever then gets `NAME.users` exclusively was the last user
and stops the server. The server itself holds `NAME.alive`, inherited from its starter, so nobody
guesses from a pid whether it lives. `NAME.json` says where it listens.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import IO, Protocol, Self

from app.errors import ConfigurationError

HOST = "127.0.0.1"
_PAUSE_SECONDS = 0.05
# Patience in pauses: 60 s for a start (after kill -9 the journal is replayed) or a stop, and
# three times that for the lock, under which somebody else may be doing both.
_PATIENCE = 1200
_LOG_LIMIT_BYTES = 10_000_000
_PASSED_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG", "TZ")  # no secrets


class Program(Protocol):
    """What differs between the servers. `folder` is where its data are."""

    folder: Path

    def command(self, port: int) -> list[str]: ...

    def uri(self, port: int) -> str: ...

    def ready(self, port: int) -> int | None:
        """The pid of the server at `port` once it works; None while it does not, or if its data
        are in another folder. May change the server so that it comes to work."""
        ...


@dataclass
class LocalServer:
    """One user's hold on a data directory's server. A `with` block stops it at the end."""

    uri: str
    port: int
    pid: int
    _home: "_Home" = field(repr=False)
    _users_lock: int | None = field(repr=False)
    _process: subprocess.Popen[bytes] | None = field(repr=False)

    def stop(self) -> bool:
        """Give up this hold; the last user stops the server and gets True. Blocks.

        Nothing happens at a second call.
        """
        if self._users_lock is None:
            return False
        with self._home.starting_or_stopping():
            os.close(self._users_lock)
            self._users_lock = None
            last = not self._home.has_users()
            if last:
                _end(self._home)
        if self._process is not None and self._process.poll() is None:
            # Popen has no way to disown a child, and warns about one that outlives it.
            self._process.returncode = 0
        return last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass(frozen=True)
class _Home:
    """The files, beside the server's folder, by which its users agree."""

    folder: Path

    def file(self, suffix: str) -> Path:
        return self.folder.parent / f"{self.folder.name}.{suffix}"

    @contextmanager
    def starting_or_stopping(self) -> Iterator[None]:
        """Hold the lock under which servers start and stop. Raises ConfigurationError."""
        for _ in range(3 * _PATIENCE):
            lock = _locked(self.file("lock"), LOCK_EX)
            if lock is not None:
                break
            time.sleep(_PAUSE_SECONDS)
        else:
            raise ConfigurationError(f"Another process does not let go of {self.file('lock')}.")
        try:
            yield
        finally:
            os.close(lock)

    def join(self) -> int:
        """The lock of one more user; to be called while starting or stopping."""
        lock = _locked(self.file("users"), LOCK_SH)
        if lock is None:
            raise ConfigurationError(f"{self.file('users')} is locked by something else.")
        return lock

    def has_users(self) -> bool:
        return _is_locked(self.file("users"))

    def is_alive(self) -> bool:
        return _is_locked(self.file("alive"))

    def read(self) -> dict[str, int]:
        """`port` and `pid` of the last server, as far as they are known."""
        try:
            return dict(json.loads(self.file("json").read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def write(self, **where: int) -> None:
        temporary = self.file("json.new")
        temporary.write_text(json.dumps(where), encoding="utf-8")
        temporary.replace(self.file("json"))


def start(program: Program) -> LocalServer:
    """Start the server or, where it lives, become one more user of it; returns once it works.

    Blocks. Raises ConfigurationError.
    """
    home = _Home(program.folder)
    try:
        with home.starting_or_stopping(), ExitStack() as undo:
            users_lock = home.join()
            undo.callback(os.close, users_lock)
            where = _find(program, home) or _launch(program, home)
            undo.pop_all()
    except OSError as error:
        raise ConfigurationError(f"No server can be started in {program.folder}: {error}") from None
    uri = program.uri(where.port)
    return LocalServer(uri, where.port, where.pid, home, users_lock, where.child)


@dataclass(frozen=True)
class _Where:
    port: int
    pid: int
    child: subprocess.Popen[bytes] | None = None


def _find(program: Program, home: _Home) -> _Where | None:
    """The server that lives, whoever started it: its starter may have been killed at any step."""
    if not home.is_alive():
        return None
    port = home.read().get("port", 0)
    pid = _wait_until_ready(program, port, home.is_alive)
    if pid is not None:
        home.write(port=port, pid=pid)
        return _Where(port, pid)
    if home.is_alive():
        raise ConfigurationError(
            f"A process (see {home.file('json')}) serves {home.folder} but does not answer at"
            f" {HOST}:{port}. End it, then start again."
        )
    return None


def _launch(program: Program, home: _Home) -> _Where:
    """Start the server, at its last port where that is free: its clients then find it again."""
    home.folder.mkdir(mode=0o700, exist_ok=True)
    output, status = "", 0
    for _ in range(3):
        port = _free_port(home.read().get("port", 0))
        with _open_log(home) as log:
            said_before = log.tell()
            child = _spawn(program.command(port), home, log, port)
        pid = _settle(program, port, child)
        if pid is not None:
            return _Where(port, pid, child)
        status = child.returncode
        output = _last_lines(home.file("log").read_bytes()[said_before:])
        if "in use" not in output:  # somebody may take the port before the server does
            break
    raise ConfigurationError(
        f"{program.command(0)[0]} did not start (exit status {status}):\n{output}\n"
        f"{_hint(output, status)}The whole log is {home.file('log')}."
    )


def _spawn(command: list[str], home: _Home, log: IO[bytes], port: int) -> subprocess.Popen[bytes]:
    """Start `command` so that it outlives us and hears no Ctrl-C of our terminal."""
    alive = _locked(home.file("alive"), LOCK_EX)
    if alive is None:
        raise ConfigurationError(f"{home.file('alive')} is locked by something else.")
    try:
        home.write(port=port)  # first the port: if we are killed here, others can ask there
        child = subprocess.Popen(  # noqa: S603  the program was found by us
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.folder,
            env={name: os.environ[name] for name in _PASSED_ENVIRONMENT if name in os.environ},
            start_new_session=True,
            pass_fds=(alive,),  # the only one of our descriptors that it gets
        )
    finally:
        os.close(alive)
    home.write(port=port, pid=child.pid)
    return child


def _end(home: _Home) -> None:
    """End the server by SIGTERM, or by SIGKILL if that does not help, and wait until it is gone."""
    pid = home.read().get("pid")
    for number in (signal.SIGTERM, signal.SIGKILL):
        if pid is None or not home.is_alive():
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        for _ in range(_PATIENCE):
            if not home.is_alive():
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)  # where it is our child, take its exit status
                return
            time.sleep(_PAUSE_SECONDS)


def _settle(program: Program, port: int, child: subprocess.Popen[bytes]) -> int | None:
    """Wait until our child works; if it does not come to that, it is ended."""
    pid = None
    try:
        pid = _wait_until_ready(program, port, lambda: child.poll() is None)
    finally:
        if pid is None:
            child.kill()
            child.wait()
    return pid


def _wait_until_ready(program: Program, port: int, lives: Callable[[], bool]) -> int | None:
    """The server's pid once it works; None if it ends before, or takes too long."""
    for _ in range(_PATIENCE):
        if not lives():
            return None
        pid = program.ready(port) if _is_listening(port) else None
        if pid is not None:
            return pid
        time.sleep(_PAUSE_SECONDS)
    return None


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _free_port(wanted: int) -> int:
    """`wanted` if it is free, else one that the system chooses (as for 0)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _locked(path: Path, kind: int) -> int | None:
    """A descriptor that holds a lock on `path`, or None if others' locks forbid it.

    The lock lasts until the descriptor is closed; a program that we start does not inherit it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        flock(descriptor, kind | LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_locked(path: Path) -> bool:
    descriptor = _locked(path, LOCK_EX)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _open_log(home: _Home) -> IO[bytes]:
    """The server's log, at its end; a long one is first put aside."""
    path = home.file("log")
    if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
        path.replace(home.file("log.1"))
    return path.open("ab")


def _last_lines(output: bytes) -> str:
    """Of a server's words those that tell why it ended: errors and plain text, else the last."""
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("{") or '"s":"E"' in line]
    telling += [line for line in lines if '"s":"F"' in line]
    return "\n".join(f"  {line[:400]}" for line in (telling or lines)[-8:])


def _hint(output: str, status: int) -> str:
    if "libcurl" in output:
        return "It needs libcurl: apt-get install libcurl4.\n"
    if "libcrypto.so.3" in output or "libssl.so.3" in output:
        return "It needs OpenSSL 3: Debian 12, Ubuntu 22.04 or later.\n"
    if status == -signal.SIGILL:
        return "This processor lacks AVX, which MongoDB needs from version 5 on.\n"
    return ""
