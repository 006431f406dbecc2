"""A process of the service that can kill itself: `python -m tests.chaos.process`.

`CRASH_AT=after_claim` kills it when it reaches that step for the `CRASH_OCCURRENCE`-th time. A step
is directly before or after one write or one delivery. Each of these is one method, which this
module wraps. So the code in production contains no hook.

`BROKEN=no_fence` runs one of the broken variants of tests/support/variants.py, which the checker
must detect.
"""

import functools
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from app.cli import main
from app.repositories.executions import ExecutionRepository
from app.repositories.jobs import JobRepository
from app.repositories.leases import LeaseRepository
from app.targets.http import HttpTarget
from tests.support.variants import VARIANTS

Method = Callable[..., Awaitable[Any]]


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


if __name__ == "__main__":
    if "CRASH_AT" in os.environ:
        die_at(STEPS[os.environ["CRASH_AT"]], int(os.environ.get("CRASH_OCCURRENCE", "1")))
    if "BROKEN" in os.environ:
        VARIANTS[os.environ["BROKEN"]](setattr)
    main()
