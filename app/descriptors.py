"""File descriptors: connections of clients must leave enough of them for the engine."""

import resource
from dataclasses import dataclass

STORES_AND_FILES = 150
"""Connections to MongoDB and Redis (about 60), to name servers, the socket on which the service
listens (32), and files, with room to spare."""

MIN_CONNECTIONS = 10
"""Connections that are accepted in every case, so that the health of the service can be read."""

_MOST = 1_048_576  # Linux refuses more (fs.nr_open)


@dataclass(frozen=True, slots=True)
class DescriptorPlan:
    """How many descriptors the process may open, and what they are for."""

    available: int
    needed_by_engine: int
    max_connections: int

    @property
    def needed(self) -> int:
        return self.needed_by_engine + self.max_connections

    @property
    def connection_limit(self) -> int:
        """How many connections are accepted at most."""
        left = self.available - self.needed_by_engine
        return min(self.max_connections, max(MIN_CONNECTIONS, left))


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one. Processes that are started later, such as
    the embedded mongod, inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def get_descriptor_limit() -> int:
    """How many files the process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft


def plan_descriptors(
    available: int, *, max_connections: int, worker_concurrency: int
) -> DescriptorPlan:
    """Plan the descriptors of a process that runs at most this many executions at once."""
    return DescriptorPlan(available, worker_concurrency + STORES_AND_FILES, max_connections)
