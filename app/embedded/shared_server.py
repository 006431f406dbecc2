"""One server process that the processes using a data directory share.

The server belongs to the data directory, not to the process that started it: the last process
that uses the server stops it. The files and locks that make this work are in `server_files`.
"""

import os
import signal
import subprocess
import sysconfig
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Self

from app.embedded.private_files import make_private_folder
from app.embedded.program import Program
from app.embedded.server_files import ServerFiles, retry_for
from app.embedded.start_failure import advise, select_lines
from app.errors import ConfigurationError

_LIMIT = timedelta(seconds=60)
"""The longest wait for a start, which replays the journal after kill -9, and for a stop."""
_MAX_STARTS = 3
_PASSED_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG", "TZ")


@dataclass
class SharedServer:
    """The server as one of its clients sees it. A `with` block stops using it at the end."""

    uri: str = field(repr=False)  # contains a password
    address: str
    port: int
    pid: int
    _program: Program = field(repr=False)
    _files: ServerFiles = field(repr=False)
    _client_lock: int | None = field(repr=False)
    _process: subprocess.Popen[bytes] | None = field(repr=False)
    _stopping: threading.Event = field(default_factory=threading.Event, repr=False)

    def restart_if_dead(self) -> bool:
        """Start the server again if it has ended, at the same address. Returns whether it did.

        Any number of processes that use the server may call this: one of them starts it, under the
        lock. Blocks until the server is ready; `stop`, called in another thread, ends the wait.
        Raises ConfigurationError or OSError if the server cannot be started.
        """
        with self._files.try_lock_start_and_stop() as locked:
            if not locked or self._client_lock is None or self._files.is_alive():
                return False
            if self._process is not None:
                self._process.poll()  # collects the exit status
            try:
                server = _launch(
                    self._program,
                    self._files,
                    self._choose_same_port,
                    is_wanted=lambda: not self._stopping.is_set(),
                )
            except ConfigurationError:
                if self._stopping.is_set():
                    return False
                raise
            self.pid, self._process = server.pid, server.child
            return True

    def _choose_same_port(self) -> int:
        """The clients of this process know the port. Raises ConfigurationError if it is taken."""
        if self._program.choose_port(self.port) != self.port:
            raise ConfigurationError(
                f"Another program has taken {self.address}. End that program, or start the service"
                " again: it then uses another port."
            )
        return self.port

    def stop(self) -> bool:
        """Stop using the server. The last client also stops the server and gets True. Blocks.

        A second call does nothing. Raises ConfigurationError if another process holds the lock for
        too long.
        """
        self._stopping.set()
        if self._client_lock is None:
            return False
        with self._files.lock_start_and_stop():
            os.close(self._client_lock)
            self._client_lock = None
            last = not self._files.has_clients()
            if last:
                _end(self._files)
        if self._process is not None and self._process.poll() is None:
            # Popen warns if its object is deleted while the child runs. A set return code prevents
            # the warning.
            self._process.returncode = 0
        return last

    def limit_log(self) -> None:
        """Bound the server's log: every user of the machine can make a server log errors."""
        self._files.limit_log()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(folder: Path, prepare: Callable[[Path], Program]) -> SharedServer:
    """Start the server whose data are in `folder`, or use the one that runs already. Returns when
    the server is ready.

    `prepare` creates what the server and its clients need. It is called under the lock, so one
    process does this at a time. Blocks. Raises ConfigurationError.
    """
    files = ServerFiles(folder)
    try:
        with files.lock_start_and_stop(), ExitStack() as undo:
            alone = not files.has_clients()
            client_lock = files.lock_as_client()
            undo.callback(os.close, client_lock)
            make_private_folder(folder)
            program = prepare(folder)
            _end_unprotected(files, alone=alone)
            server = _find(program, files) or _launch(
                program, files, lambda: program.choose_port(files.read_record().get("port", 0))
            )
            undo.pop_all()
    except OSError as error:
        raise ConfigurationError(f"No server can be started in {folder}: {error}") from None
    return SharedServer(
        program.build_uri(server.port),
        program.describe_address(server.port),
        server.port,
        server.pid,
        program,
        files,
        client_lock,
        server.child,
    )


@dataclass(frozen=True)
class _ReadyServer:
    port: int
    pid: int
    child: subprocess.Popen[bytes] | None = None


def _end_unprotected(files: ServerFiles, *, alone: bool) -> None:
    """End a server that an earlier release started without a password and did not stop."""
    if not files.is_alive() or files.is_protected():
        return
    if not alone:
        raise ConfigurationError(
            f"A process of an earlier release uses {files.folder}. Stop it, then start again."
        )
    _end(files)
    if files.is_alive():
        raise ConfigurationError(
            f"A server of an earlier release runs in {files.folder}. End it, then start again."
        )


def _find(program: Program, files: ServerFiles) -> _ReadyServer | None:
    """Return the server that another process started, or None if there is none.

    The other process may have been killed at any step of the start, so this function completes
    the record.
    """
    if not files.is_alive():
        return None
    port = files.read_record().get("port", 0)
    pid = _wait_until_ready(program, port, files.is_alive)
    if pid is not None:
        files.write_record(port=port, pid=pid)
        return _ReadyServer(port, pid)
    if files.is_alive():
        raise ConfigurationError(
            f"The server of {files.folder} runs but does not respond at"
            f" {program.describe_address(port)}, or rejects the secret in its file."
            f" End the process whose pid is in {files.path('json')}, then start again."
        )
    return None


def _launch(
    program: Program,
    files: ServerFiles,
    choose_port: Callable[[], int],
    *,
    is_wanted: Callable[[], bool] = lambda: True,
) -> _ReadyServer:
    """Start the server. The wait for it ends when `is_wanted` returns False."""
    output, exit_status = "", 0
    for _ in range(_MAX_STARTS):
        port = choose_port()
        with files.open_log() as log:
            log_start = log.tell()
            child = _spawn(program.build_command(port), files, log, port)
        pid = _wait_for_child(program, port, child, is_wanted)
        if pid is not None:
            return _ReadyServer(port, pid, child)
        exit_status = child.returncode
        output = select_lines(files.path("log").read_bytes()[log_start:])
        if "in use" not in output:  # another process may take the port before the server does
            break
    raise ConfigurationError(
        f"{program.build_command(0)[0]} did not start (exit status {exit_status}):\n"
        f"{output}\n{advise(output, exit_status)}The whole log is {files.path('log')}."
    )


def _spawn(
    command: list[str], files: ServerFiles, log: IO[bytes], port: int
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own: it outlives this process and ignores Ctrl-C."""
    alive = files.lock_as_server()
    try:
        # The port is written first. If this process is killed here, others find the server by it.
        files.write_record(port=port)
        child = subprocess.Popen(  # noqa: S603  prepare_mongod or find_redis_server found the program
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=files.folder,
            env=_build_environment(),
            start_new_session=True,
            pass_fds=(alive,),  # the server inherits no other descriptor
        )
    finally:
        os.close(alive)
    files.write_record(port=port, pid=child.pid)
    return child


def _build_environment() -> dict[str, str]:
    """The environment without the service's settings, some of which are secrets.

    On a system without libcurl, which mongod needs, `make run` installs the package pycurl, which
    contains it.
    """
    passed = {name: os.environ[name] for name in _PASSED_ENVIRONMENT if name in os.environ}
    libraries = Path(sysconfig.get_path("platlib"), "pycurl.libs")
    if (libraries / "libcurl.so.4").exists():
        given = passed.get("LD_LIBRARY_PATH")
        passed["LD_LIBRARY_PATH"] = f"{libraries}:{given}" if given else str(libraries)
    return passed


def _wait_for_child(
    program: Program, port: int, child: subprocess.Popen[bytes], is_wanted: Callable[[], bool]
) -> int | None:
    """Wait until the child is ready and return its pid; a child that does not get ready is killed
    and the result is None."""
    pid = None
    try:
        pid = _wait_until_ready(program, port, lambda: child.poll() is None and is_wanted())
    finally:
        if pid is None:
            child.kill()
            child.wait()
    return pid


def _wait_until_ready(program: Program, port: int, is_alive: Callable[[], bool]) -> int | None:
    """Wait until the server is ready and return its pid; None if it ends or takes over 60 s."""
    for _ in retry_for(_LIMIT):
        if not is_alive():
            return None
        pid = program.make_ready(port)
        if pid is not None:
            return pid
    return None


def _end(files: ServerFiles) -> None:
    """End the server by SIGTERM, or by SIGKILL if it still runs 60 s later."""
    pid = files.read_record().get("pid")
    for number in (signal.SIGTERM, signal.SIGKILL):
        if pid is None or not files.is_alive():
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        for _ in retry_for(_LIMIT):
            if not files.is_alive():
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)  # collects the exit status if the server is a child
                return
