"""The fixture `world`: each test has its own database. It runs with Motor, and with PyMongo's own
client in the modules that call every method of the repositories. The commands of the fixture
`counted` are counted; it runs with one driver."""

from collections.abc import AsyncIterator

import pytest

from app.repositories.mongo import open_client
from tests.support.commands import CommandLog
from tests.support.engine import OpenClient, World, open_pymongo_client, open_world


@pytest.fixture
def database_name(emptied_database_name: str) -> str:
    return emptied_database_name


MOTOR = pytest.param(open_client, id="motor")
PYMONGO = pytest.param(open_pymongo_client, id="pymongo", marks=pytest.mark.slow)

WITH_ONE_DRIVER = {
    "test_clock_jumps",
    "test_fresh_answers",
    "test_history_limit",
    "test_late_slots",
    "test_lease_races",
    "test_max_runs",
    "test_overlap_batches",
    "test_overlap_order",
    "test_overlap_races",
    "test_overlap_timeline",
    "test_renewals",
    "test_saturation",
    "test_starts_in_doubt",
    "test_timeouts",
}
"""Modules about decisions and interleavings, whose statements other modules execute, too."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "world" in metafunc.fixturenames:
        module = metafunc.module.__name__.rpartition(".")[2]
        drivers = [MOTOR] if module in WITH_ONE_DRIVER else [MOTOR, PYMONGO]
        metafunc.parametrize("world", drivers, indirect=True)


@pytest.fixture
async def world(
    mongo_uri: str, database_name: str, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    driver: OpenClient = request.param
    world = await open_world(mongo_uri, database_name, driver=driver)
    yield world
    await world.close()


@pytest.fixture
def commands() -> CommandLog:
    return CommandLog()


@pytest.fixture
async def counted(mongo_uri: str, database_name: str, commands: CommandLog) -> AsyncIterator[World]:
    """A world whose commands are counted."""
    world = await open_world(mongo_uri, database_name, driver=commands.open_client)
    yield world
    await world.close()
