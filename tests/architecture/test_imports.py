"""The import contracts of pyproject.toml: the application keeps them, and each of them rejects a
small application that breaks it."""

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.architecture.rules import ROOT

pytestmark = pytest.mark.slow  # each test starts the linter

APP = ROOT / "app"
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint_imports(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--no-logo", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@dataclass(frozen=True)
class BrokenContract:
    """Lines that break a contract, by the file of `app/` to which they are added."""

    contract: str
    lines: Mapping[str, str]


BROKEN = [
    BrokenContract("layers", {"services/jobs.py": "from app import engine"}),
    BrokenContract("layers", {"services/jobs.py": "import app.engine.loop"}),
    BrokenContract("layers", {"services/jobs.py": "from app.engine.loop import Loop as L"}),
    BrokenContract("layers", {"services/jobs.py": "from ..engine import loop"}),
    BrokenContract("layers", {"services/jobs.py": "def late():\n    from app import runtime"}),
    BrokenContract(
        "layers", {"services/jobs.py": "if TYPE_CHECKING:\n    from app import runtime"}
    ),
    BrokenContract("layers", {"runtime.py": "from app import routers"}),
    BrokenContract("layers", {"repositories/jobs.py": "from app import targets"}),
    BrokenContract("layers", {"targets/http.py": "from app import cache"}),
    BrokenContract("layers", {"models/job.py": "from app import policies"}),
    BrokenContract("layers", {"policies/retry.py": "from app import schemas"}),
    BrokenContract("layers", {"triggers/cron.py": "from app import models"}),
    BrokenContract("layers", {"settings.py": "from app import models"}),
    BrokenContract("layers", {"security.py": "from app import errors"}),
    BrokenContract("layers", {"unknown.py": ""}),
    BrokenContract("layers", {"unknown/__init__.py": ""}),
    BrokenContract("package", {"__init__.py": "from app import errors"}),
    BrokenContract(
        "no-cycles",
        {
            "services/jobs.py": "from app.services import auth",
            "services/auth.py": "from app.services import jobs",
        },
    ),
    BrokenContract(
        "no-cycles",
        {
            "engine/loop.py": "from app.engine import worker",
            "engine/worker.py": "from app.engine import reaper",
            "engine/reaper.py": "from app.engine import loop",
        },
    ),
    BrokenContract("settings", {"services/auth.py": "from app.settings import Settings"}),
    BrokenContract("settings", {"engine/worker.py": "from app import settings"}),
    BrokenContract("composition", {"routers/jobs.py": "from app import engine"}),
    BrokenContract("composition", {"services/jobs.py": "from app import middleware"}),
    BrokenContract("composition", {"repositories/mongo.py": "from app import embedded"}),
    BrokenContract("stores-and-targets", {"routers/jobs.py": "from app import repositories"}),
    BrokenContract("stores-and-targets", {"routers/jobs.py": "from app.targets import http"}),
    BrokenContract("stores-and-targets", {"routers/jobs.py": "from app import cache"}),
    BrokenContract("stores-and-targets", {"schemas/jobs.py": "from app.wake import Wake"}),
    BrokenContract("schemas", {"engine/worker.py": "from app import schemas"}),
    BrokenContract("schemas", {"repositories/jobs.py": "from app.schemas.jobs import JobOut"}),
    BrokenContract("policies", {"repositories/leases.py": "from app.policies import retry"}),
    BrokenContract("policies", {"schemas/jobs.py": "from app.policies import retry"}),
    BrokenContract("pure-models", {"models/job.py": "from app import clock"}),
    BrokenContract("pure-models", {"triggers/cron.py": "import app.logs"}),
    BrokenContract("motor", {"repositories/jobs.py": "import motor"}),
    BrokenContract("motor", {"runtime.py": "from motor import motor_asyncio"}),
    BrokenContract("pymongo", {"services/jobs.py": "from pymongo.errors import PyMongoError"}),
    BrokenContract("pymongo", {"engine/worker.py": "import pymongo as mongo"}),
    BrokenContract("pymongo", {"models/job.py": "from bson import ObjectId"}),
    BrokenContract("fastapi", {"services/jobs.py": "from fastapi import HTTPException"}),
    BrokenContract("fastapi", {"runtime.py": "from starlette.types import Scope"}),
    BrokenContract("aiohttp", {"services/health.py": "import aiohttp"}),
    BrokenContract("aiohttp", {"services/health.py": "import aiodns"}),
    BrokenContract("yarl", {"services/jobs.py": "from yarl import URL"}),
    BrokenContract("yarl", {"schemas/jobs.py": "from yarl import URL"}),
    BrokenContract("redis", {"repositories/mongo.py": "from redis.asyncio import Redis"}),
    BrokenContract("server", {"services/auth.py": "from app import http_server"}),
    BrokenContract("server", {"middleware/paths.py": "from app.http_server import connections"}),
    BrokenContract("server", {"middleware/loop_turns.py": "from app.http_server import protocol"}),
    BrokenContract("uvicorn", {"http_server/startup.py": "import uvicorn"}),
    BrokenContract("uvicorn", {"main.py": "import httptools"}),
    BrokenContract("jose", {"services/auth.py": "from jose import jwt"}),
    BrokenContract("jose", {"services/auth.py": "from passlib.hash import argon2"}),
    BrokenContract("croniter", {"schemas/schedules.py": "from croniter import croniter"}),
]


@pytest.fixture
def small_app(tmp_path: Path) -> Path:
    """A folder with the contracts and every module of the application, all of them empty."""
    for path in APP.rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    return tmp_path


def test_the_application_keeps_every_contract() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout
    assert " 0 broken" in result.stdout


def test_a_small_application_without_imports_keeps_every_contract(small_app: Path) -> None:
    result = lint_imports(small_app)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "broken",
    BROKEN,
    ids=lambda broken: f"{broken.contract}: {'; '.join(broken.lines.values()) or 'a new file'}",
)
def test_a_contract_rejects_an_import_that_breaks_it(
    broken: BrokenContract, small_app: Path
) -> None:
    for name, lines in broken.lines.items():
        path = small_app / "app" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{lines}\n")
    result = lint_imports(small_app, "--contract", broken.contract)
    assert result.returncode == 1
    assert "Contracts: 0 kept, 1 broken." in result.stdout


def test_every_contract_is_tried_on_an_application_that_breaks_it() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = configuration["tool"]["importlinter"]["contracts"]
    assert {contract["id"] for contract in contracts} == {broken.contract for broken in BROKEN}
