"""The fixture `world`: each test has its own database and runs once with each driver. The commands
of the fixture `counted` are counted; it runs with one driver."""

from collections.abc import AsyncIterator

import pytest

from app.repositories.mongo import open_client
from tests.support.commands import CommandLog
from tests.support.engine import OpenClient, World, open_pymongo_client, open_world


@pytest.fixture
def database_name(emptied_database_name: str) -> str:
    return emptied_database_name


@pytest.fixture(
    params=[
        pytest.param(open_client, id="motor"),
        pytest.param(open_pymongo_client, id="pymongo", marks=pytest.mark.slow),
    ]
)
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
