"""Fixtures of all tests: a real MongoDB and a real Redis, the API on them, and a client for each
user. Each test has its own part of the servers."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import redis
import structlog
from pymongo import MongoClient

from tests.support.api import Api, open_api
from tests.support.servers import clean_up, running_mongod, running_redis, shared_folder


def pytest_configure() -> None:
    """Log plain tracebacks: structlog's default shows local variables, which takes seconds."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


def pytest_sessionfinish(session: pytest.Session) -> None:
    clean_up(session.config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A replica set with one member, shared by all tests. A test uses `database_name`, and gives
    fail points an `appName`. A test that steps down or kills the server uses `own_mongo_uri`."""
    with running_mongod(shared_folder(tmp_path_factory)) as uri:
        yield uri


@pytest.fixture
def own_mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A mongod that only this test uses. Its start takes a second and a half."""
    with running_mongod(tmp_path_factory.mktemp("own")) as uri:
        yield uri


@pytest.fixture(scope="session")
def mongo_client(mongo_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """A blocking client that prepares and checks documents without the code under test."""
    client: MongoClient[dict[str, Any]]
    with MongoClient(mongo_uri, tz_aware=True, timeoutMS=10_000) as client:
        yield client


@pytest.fixture
def database_name(mongo_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """A name that no other test uses; the database is dropped after the test."""
    name = f"test_{uuid4().hex}"
    yield name
    mongo_client.drop_database(name)


@pytest.fixture(scope="session")
def _worker_database_name(mongo_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    name = f"worker_{uuid4().hex}"
    yield name
    mongo_client.drop_database(name)


@pytest.fixture
def emptied_database_name(
    mongo_client: MongoClient[dict[str, Any]], _worker_database_name: str
) -> str:
    """The database of this pytest worker, emptied before each test. Its indexes stay, because
    creating them takes most of the time of a short test. So a test that changes indexes uses
    `database_name`."""
    database = mongo_client[_worker_database_name]
    for name in database.list_collection_names():
        database[name].delete_many({})
    return _worker_database_name


@pytest.fixture(scope="session")
def _worker_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_redis(shared_folder(tmp_path_factory)) as url:
        yield url


@pytest.fixture
def redis_url(_worker_redis_url: str) -> str:
    """The Redis database of this pytest worker, empty before each test. Pub/sub channels do not
    belong to a database, so a test must use channel names of its own."""
    with redis.Redis.from_url(_worker_redis_url) as client:
        client.flushdb()
    return _worker_redis_url


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
