"""The tests' own mongod and redis-server: one of each for all pytest workers of a test session.

They are shared like the servers of `app/embedded/`, but without passwords and in a temporary
folder: the first pytest worker that needs a server starts it, and the last one that used it stops
it. If a program is missing, the tests fail with an error that says how to install it; they are not
skipped.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.open_servers import start_open_mongod, start_open_redis

_FOLDER = "servers"
_REDIS_DATABASES = 64  # one for each pytest worker

UNREACHABLE_REDIS = "redis://127.0.0.1:1/0"
"""A URL on which no server listens."""

# Test commands allow fail points and `replSetTest`. The TTL monitor is off, because it uses the
# real time and the tests use a manual clock.
MONGOD_ARGS = (
    *("--setParameter", "enableTestCommands=1"),
    *("--setParameter", "ttlMonitorEnabled=false"),
)


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the pytest workers of this session share and no other session uses."""
    base = factory.getbasetemp()
    return (base.parent if _is_worker() else base) / _FOLDER


@contextmanager
def running_mongod(folder: Path) -> Iterator[str]:
    """Run the folder's mongod, a replica set of one with test commands, and yield its URI."""
    with start_open_mongod(folder, extra_args=MONGOD_ARGS) as server:
        yield server.uri


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Run the folder's redis-server and yield the URL of this pytest worker's database in it."""
    assert worker_number() < _REDIS_DATABASES, f"at most {_REDIS_DATABASES} pytest workers"
    with start_open_redis(folder, extra_args=("--databases", str(_REDIS_DATABASES))) as server:
        yield f"redis://127.0.0.1:{server.port}/{worker_number()}"


def worker_number() -> int:
    """Return the number of this pytest-xdist worker; 0 without pytest-xdist."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def clean_up(base: Path) -> None:
    """End the servers of killed pytest workers and delete the folder, which has 300 MB of journal
    files. Call it at the end of the session.
    """
    if _is_worker():
        return
    folder = base / _FOLDER
    for record in folder.glob("*.json"):
        with suppress(psutil.NoSuchProcess, KeyError, ValueError):
            process = psutil.Process(json.loads(record.read_text())["pid"])
            if str(folder) in " ".join(process.cmdline()):
                process.kill()
                process.wait(10)
    shutil.rmtree(folder, ignore_errors=True)


def _is_worker() -> bool:
    return "PYTEST_XDIST_WORKER" in os.environ
