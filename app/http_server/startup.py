"""Sets up the limits of the server when the process starts, and warns where they do not hold."""

import socket
import sys

import structlog

from app.descriptors import get_descriptor_limit, plan_descriptors
from app.http_server.connections import Connections
from app.networks import Networks

PROTOCOL = "app.http_server.protocol:LimitedProtocol"
"""The protocol's name for uvicorn's option `--http`."""

ACCEPTED_AT_ONCE = 32
"""The most connections that are accepted in one turn of the event loop."""

_log = structlog.get_logger(__name__)


def open_connections(
    *, max_connections: int, worker_concurrency: int, trusted_proxies: Networks
) -> Connections:
    """The connections of this process, as many as the limit of open files allows."""
    plan = plan_descriptors(
        get_descriptor_limit(),
        max_connections=max_connections,
        worker_concurrency=worker_concurrency,
    )
    if plan.available < plan.needed:
        _log.warning(
            "few_file_descriptors",
            limit=plan.available,
            needed=plan.needed,
            accepted_connections=plan.connection_limit,
            problem="MAX_CONNECTIONS and WORKER_CONCURRENCY need more open files than the hard"
            " limit of the process; raise it (ulimit -Hn, LimitNOFILE), or lower these settings",
        )
    return Connections(plan.connection_limit, trusted_proxies=trusted_proxies)


def duplicate_listener(listener: socket.socket) -> list[socket.socket]:
    """The listener and duplicates of it, so that connections are accepted as fast as they come.

    uvloop accepts one connection of each in a turn of the event loop. With a single one, a health
    check waits a turn for each connection that came before it.
    """
    return [listener, *(listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1))]


def warn_of_other_protocol() -> None:
    """Warn if uvicorn was started with a protocol of its own.

    uvicorn imports the protocol of its option `--http` before it starts the application, and
    nothing else imports it in a process that uvicorn's own command starts.
    """
    if PROTOCOL.partition(":")[0] not in sys.modules:
        _log.warning(
            "no_connection_limits",
            problem="this process has no limits for headers and connections, and ignores"
            " TRUSTED_PROXIES for the client's address where uvicorn's FORWARDED_ALLOW_IPS applies;"
            f" start it with `python -m app` or `uvicorn app.main:app --http {PROTOCOL}`",
        )
