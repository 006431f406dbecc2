"""The tests' own mongod and redis-server: one of each for all workers of a run.

They are the embedded servers of `app/local.py` in a temporary folder, so the first worker that
needs one starts it and the last one that used it stops it. A missing program is an error that
says how to get it, never a skip.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from app.local import start_mongod, start_redis

_FOLDER = "servers"
_REDIS_DATABASES = 64  # one for each worker

# With these the tests may use fail points and `replSetTest` commands.
# The TTL monitor goes by the real time, which the tests' clocks do not.
MONGOD_ARGS = (
    *("--setParameter", "enableTestCommands=1"),
    *("--setParameter", "ttlMonitorEnabled=false"),
)


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of this run, and only of this run, share."""
    base = factory.getbasetemp()
    return (base.parent if _is_worker() else base) / _FOLDER


@contextmanager
def running_mongod(folder: Path) -> Iterator[str]:
    """The URI of the folder's mongod, a replica set of one that knows test commands."""
    with start_mongod(folder, extra_args=MONGOD_ARGS) as server:
        yield server.uri


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """The URL of this worker's own database in the folder's redis-server."""
    with start_redis(folder, extra_args=("--databases", str(_REDIS_DATABASES))) as server:
        yield f"redis://127.0.0.1:{server.port}/{worker_number() % _REDIS_DATABASES}"


def worker_number() -> int:
    """0 without pytest-xdist, else the number of this worker."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def clean_up(base: Path) -> None:
    """After the run: end what a killed worker left behind, and give 300 MB of journal back."""
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
