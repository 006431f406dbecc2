"""What the operator reads when the service cannot start, and where it starts without Redis."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.clock import SystemClock
from app.embedded.mongod import start_mongod
from app.embedded.stores import open_stores
from app.errors import ConfigurationError
from app.repositories.opening import open_database
from app.settings import load_settings
from tests.support.programs import run_program
from tests.support.service import ROOT

SECONDS = timedelta(seconds=0.5)
COMMANDS = {
    "the command line": ["-m", "app", "all"],
    "uvicorn's command": ["-m", "uvicorn", "app.main:app", "--port", "0"],
}


async def find_error(uri: str, *, limit: timedelta = SECONDS) -> str:
    with pytest.raises(ConfigurationError) as caught:
        async with open_database(uri, "test", clock=SystemClock(), limit=limit):
            pass
    return caught.value.detail


@pytest.mark.parametrize(
    ("uri", "address", "reason"),
    [
        ("mongodb://me:canary@127.0.0.1:1/?replicaSet=rs", "127.0.0.1:1 ", "Connection refused"),
        ("mongodb://127.0.0.1:1,127.0.0.2:1/?replicaSet=rs", "127.0.0.1:1,127.0.0.2:1 ", "refused"),
    ],
)
async def test_a_database_that_does_not_respond_is_named_with_its_setting(
    uri: str, address: str, reason: str
) -> None:
    message = await find_error(uri)
    assert f"The database at {address}does not respond within 0.5 s" in message
    assert reason in message
    assert "MONGODB_URI" in message
    assert "canary" not in message
    assert "Topology" not in message


async def test_a_database_of_another_replica_set_is_named(mongo_uri: str) -> None:
    message = await find_error(mongo_uri.replace("replicaSet=carillon", "replicaSet=other"))
    assert "other" in message
    assert "MONGODB_URI" in message


@pytest.mark.slow
async def test_a_database_that_rejects_the_password_is_named(tmp_path: Path) -> None:
    with start_mongod(tmp_path) as server:
        password = (tmp_path / "mongodb.password").read_text().strip()
        message = await find_error(
            server.uri.replace(password, "canary"), limit=timedelta(seconds=8)
        )
    assert f"127.0.0.1:{server.port} cannot be used" in message
    assert "password in MONGODB_URI" in message
    assert "canary" not in message


async def test_a_redis_that_does_not_respond_is_a_warning_with_its_setting(
    tmp_path: Path, mongo_uri: str
) -> None:
    settings = load_settings(
        env_file=None,
        data_dir=tmp_path,
        mongodb_uri=mongo_uri,
        redis_url="redis://me:canary@127.0.0.1:1/0",
    )
    with capture_logs() as lines:
        async with open_stores(settings):
            pass
    (line,) = lines
    assert line["event"] == "redis_does_not_respond"
    assert line["log_level"] == "warning"
    assert (line["setting"], line["address"]) == ("REDIS_URL", "127.0.0.1:1")
    assert "canary" not in str(line)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PORT", "99999", "  PORT should be less than or equal to 65535"),
        ("SECRET_KEY", "weak", "SECRET_KEY must have at least 32 bytes"),
        (
            "MONGODB_URI",
            "mongodb://127.0.0.1:1/?replicaSet=rs",
            "The database at 127.0.0.1:1 does not respond within 0.5 s",
        ),
    ],
)
async def test_a_service_that_cannot_start_prints_one_message_and_no_traceback(
    tmp_path: Path, command: str, variable: str, value: str, message: str
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOST": "0.0.0.0",
        "DATA_DIR": str(tmp_path),
        "MONGODB_TIMEOUT_SECONDS": "0.5",
        "REDIS_URL": "redis://127.0.0.1:1",
        variable: value,
    }
    status, output = await run_program(
        sys.executable, *COMMANDS[command], env=environment, seconds=60, cwd=ROOT
    )
    assert status != 0
    assert output.count("carillon: ") == 1, output
    assert message in output
    assert "Traceback" not in output
