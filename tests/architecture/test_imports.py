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
class Broken:
    """Lines that break a contract, by the file of `app/` to which they are added."""

    contract: str
    lines: Mapping[str, str]


BROKEN = [
    Broken("layers", {"services/jobs.py": "from app import engine"}),
    Broken("layers", {"services/jobs.py": "import app.engine.loop"}),
    Broken("layers", {"services/jobs.py": "from app.engine.loop import Loop as L"}),
    Broken("layers", {"services/jobs.py": "from ..engine import loop"}),
    Broken("layers", {"services/jobs.py": "def late():\n    from app import runtime"}),
    Broken("layers", {"services/jobs.py": "if TYPE_CHECKING:\n    from app import runtime"}),
    Broken("layers", {"runtime.py": "from app import routers"}),
    Broken("layers", {"repositories/jobs.py": "from app import targets"}),
    Broken("layers", {"targets/http.py": "from app import cache"}),
    Broken("layers", {"models/job.py": "from app import policies"}),
    Broken("layers", {"policies/retry.py": "from app import schemas"}),
    Broken("layers", {"triggers/cron.py": "from app import models"}),
    Broken("layers", {"settings.py": "from app import models"}),
    Broken("layers", {"security.py": "from app import errors"}),
    Broken("layers", {"unknown.py": ""}),
    Broken("layers", {"unknown/__init__.py": ""}),
    Broken("package", {"__init__.py": "from app import errors"}),
    Broken(
        "no-cycles",
        {
            "services/jobs.py": "from app.services import auth",
            "services/auth.py": "from app.services import jobs",
        },
    ),
    Broken(
        "no-cycles",
        {
            "engine/loop.py": "from app.engine import worker",
            "engine/worker.py": "from app.engine import reaper",
            "engine/reaper.py": "from app.engine import loop",
        },
    ),
    Broken("settings", {"services/auth.py": "from app.settings import Settings"}),
    Broken("settings", {"engine/worker.py": "from app import settings"}),
    Broken("composition", {"routers/jobs.py": "from app import engine"}),
    Broken("composition", {"services/jobs.py": "from app import middleware"}),
    Broken("composition", {"repositories/mongo.py": "from app import embedded"}),
    Broken("stores-and-targets", {"routers/jobs.py": "from app import repositories"}),
    Broken("stores-and-targets", {"routers/jobs.py": "from app.targets import http"}),
    Broken("stores-and-targets", {"routers/jobs.py": "from app import cache"}),
    Broken("stores-and-targets", {"schemas/jobs.py": "from app.wake import Wake"}),
    Broken("schemas", {"engine/worker.py": "from app import schemas"}),
    Broken("schemas", {"repositories/jobs.py": "from app.schemas.jobs import JobOut"}),
    Broken("policies", {"repositories/leases.py": "from app.policies import retry"}),
    Broken("policies", {"schemas/jobs.py": "from app.policies import retry"}),
    Broken("pure-models", {"models/job.py": "from app import clock"}),
    Broken("pure-models", {"triggers/cron.py": "import app.logs"}),
    Broken("motor", {"repositories/jobs.py": "import motor"}),
    Broken("motor", {"runtime.py": "from motor import motor_asyncio"}),
    Broken("pymongo", {"services/jobs.py": "from pymongo.errors import PyMongoError"}),
    Broken("pymongo", {"engine/worker.py": "import pymongo as mongo"}),
    Broken("pymongo", {"models/job.py": "from bson import ObjectId"}),
    Broken("fastapi", {"services/jobs.py": "from fastapi import HTTPException"}),
    Broken("fastapi", {"runtime.py": "from starlette.types import Scope"}),
    Broken("aiohttp", {"services/health.py": "import aiohttp"}),
    Broken("yarl", {"services/jobs.py": "from yarl import URL"}),
    Broken("yarl", {"schemas/jobs.py": "from yarl import URL"}),
    Broken("redis", {"repositories/mongo.py": "from redis.asyncio import Redis"}),
    Broken("jose", {"services/auth.py": "from jose import jwt"}),
    Broken("jose", {"services/auth.py": "from passlib.hash import argon2"}),
    Broken("croniter", {"schemas/schedules.py": "from croniter import croniter"}),
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
def test_a_contract_rejects_an_import_that_breaks_it(broken: Broken, small_app: Path) -> None:
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
