"""A process of the service that can kill itself: `python -m tests.chaos.process`.

`CRASH_AT=after_claim` kills it when it reaches that step for the `CRASH_OCCURRENCE`-th time. A step
is directly before or after one write or one delivery. Each of these is one method, which this
module wraps. So the code in production contains no hook.

`SILENT_DNS=5353` makes every name under `dns.test` one of a DNS server that does not respond; the
port is that of such a server on 127.0.0.1.

`BROKEN=no_fence` runs one of the broken variants of tests/support/variants.py, which the checker
must detect.
"""

import functools
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from app.cli import main
from app.repositories.executions import ExecutionRepository
from app.repositories.jobs import JobRepository
from app.repositories.leases import LeaseRepository
from app.targets.http import HttpTarget
from tests.chaos.limits import SILENT_DOMAIN
from tests.support.variants import VARIANTS

Method = Callable[..., Awaitable[Any]]

_LOOKUP_SECONDS = 20
"""The time in which the C library asks two servers twice each."""


@dataclass(frozen=True, slots=True)
class Step:
    """A point at which the process can kill itself."""

    class_: type
    method: str
    after: bool


STEPS = {
    "before_insert": Step(ExecutionRepository, "insert_many", after=False),
    "after_insert": Step(ExecutionRepository, "insert_many", after=True),
    "after_advance": Step(JobRepository, "advance", after=True),
    "after_claim": Step(LeaseRepository, "claim", after=True),
    "after_start": Step(LeaseRepository, "start", after=True),
    "before_send": Step(HttpTarget, "deliver", after=False),
    "after_send": Step(HttpTarget, "deliver", after=True),
    "before_finish": Step(LeaseRepository, "settle", after=False),
    "after_finish": Step(LeaseRepository, "settle", after=True),
    "after_reap": Step(LeaseRepository, "settle_expired", after=True),
}


def die_at(step: Step, occurrence: int) -> None:
    """Kill the process when it reaches a step for the `occurrence`-th time with work to do."""
    method: Method = getattr(step.class_, step.method)
    occurrences = 0

    def kill_at_occurrence(work: object) -> None:
        nonlocal occurrences
        occurrences += bool(work)
        if occurrences == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(method)
    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not step.after:
            kill_at_occurrence(args[0])
        result = await method(self, *args, **kwargs)
        if step.after:
            kill_at_occurrence(result)
        return result

    setattr(step.class_, step.method, wrapped)


def resolve_by(port: int) -> None:
    """Let every lookup of a name wait for the server at this port, which does not respond."""
    getaddrinfo = socket.getaddrinfo

    def wait_and_fail(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not str(host).endswith(SILENT_DOMAIN):
            return getaddrinfo(host, *args, **kwargs)
        time.sleep(_LOOKUP_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "the DNS server does not respond")

    socket.getaddrinfo = wait_and_fail
    if find_spec("aiodns") is not None:
        resolver = import_module("aiodns").DNSResolver
        server = {"nameservers": ["127.0.0.1"], "udp_port": port, "tcp_port": port}
        resolver.__init__ = functools.partialmethod(resolver.__init__, **server)


if __name__ == "__main__":
    if "SILENT_DNS" in os.environ:
        resolve_by(int(os.environ["SILENT_DNS"]))
    if "CRASH_AT" in os.environ:
        die_at(STEPS[os.environ["CRASH_AT"]], int(os.environ.get("CRASH_OCCURRENCE", "1")))
    if "BROKEN" in os.environ:
        VARIANTS[os.environ["BROKEN"]](setattr)
    main()
