"""The API tests share one database for each pytest worker, which is empty before each test."""

import pytest


@pytest.fixture
def database_name(emptied_database_name: str) -> str:
    return emptied_database_name
