"""How many connections are accepted with few file descriptors, and who warns of what."""

import resource
import sys
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from app.descriptors import (
    MIN_CONNECTIONS,
    STORES_AND_FILES,
    get_descriptor_limit,
    plan_descriptors,
    raise_descriptor_limit,
)
from app.http_server import protocol, startup
from app.http_server.startup import open_connections, warn_of_other_protocol


@pytest.mark.parametrize(
    ("available", "accepted"),
    [
        (1_000_000, 2_000),
        (2_000 + 100 + STORES_AND_FILES, 2_000),
        (1_024, 1_024 - 100 - STORES_AND_FILES),
        (100, MIN_CONNECTIONS),
    ],
)
def test_connections_leave_descriptors_for_the_engine(available: int, accepted: int) -> None:
    plan = plan_descriptors(available, max_connections=2_000, worker_concurrency=100)
    assert plan.connection_limit == accepted


@pytest.fixture
def soft_limit() -> Iterator[int]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(512, before[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, before[1]))
    yield lower
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("soft_limit")
def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    raise_descriptor_limit()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert get_descriptor_limit() == soft
    assert soft == hard or hard == resource.RLIM_INFINITY


def test_a_low_limit_is_a_warning_that_names_both_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "get_descriptor_limit", lambda: 400)
    with capture_logs() as logs:
        connections = open_connections(
            max_connections=2_000, worker_concurrency=100, trusted_proxies=()
        )
    [warning] = logs
    assert warning["event"] == "few_file_descriptors"
    assert (warning["limit"], warning["needed"]) == (400, 2_000 + 100 + STORES_AND_FILES)
    assert "MAX_CONNECTIONS" in warning["problem"]
    assert "WORKER_CONCURRENCY" in warning["problem"]
    assert connections.limit == warning["accepted_connections"] == 400 - 100 - STORES_AND_FILES


def test_a_process_with_uvicorns_own_protocol_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as logs:
        warn_of_other_protocol()
        assert logs == []
        monkeypatch.delitem(sys.modules, protocol.__name__)
        warn_of_other_protocol()
    [warning] = logs
    assert f"--http {startup.PROTOCOL}" in warning["problem"]
