"""Broken variants change indexes, so each life test has a new database."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient


@pytest.fixture
def database_name(mongo_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    name = f"life_{uuid4().hex}"
    yield name
    mongo_client.drop_database(name)
