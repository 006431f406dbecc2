"""The API with a database for each test, and a client for each user."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.support.api import Api, open_api


@pytest.fixture
def database_name(emptied_database_name: str) -> str:
    return emptied_database_name


@pytest.fixture
async def api(mongo_uri: str, database_name: str, redis_url: str) -> AsyncIterator[Api]:
    async with open_api(mongo_uri, database_name, redis_url) as api:
        yield api


@pytest.fixture
async def alice(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.open_client("alice") as client:
        yield client


@pytest.fixture
async def bob(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.open_client("bob") as client:
        yield client


@pytest.fixture
async def admin(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.open_client("admin") as client:
        yield client


@pytest.fixture
async def viewer(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.open_client("viewer") as client:
        yield client


@pytest.fixture
async def nobody(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    async with api.open_client() as client:
        yield client
