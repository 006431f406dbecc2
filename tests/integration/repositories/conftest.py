"""A world in an empty database."""

from collections.abc import AsyncIterator

import pytest

from tests.support.engine import World, open_world


@pytest.fixture
async def world(mongo_uri: str, database_name: str) -> AsyncIterator[World]:
    world = await open_world(mongo_uri, database_name)
    yield world
    await world.close()
