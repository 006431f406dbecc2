"""The deadline of the request that the present task handles. Its database calls keep it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Deadline:
    """The instant at which the calls of a request must have ended."""

    at: float
    monotonic: Callable[[], float]
    """The clock of `at`, in seconds."""

    def get_remaining_seconds(self) -> float:
        """The time until the deadline; zero or less if it has passed."""
        return self.at - self.monotonic()


_present: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def find_deadline() -> Deadline | None:
    """The deadline of the present request; None in the loops of the engine and at the start."""
    return _present.get()


@contextmanager
def set_deadline(deadline: Deadline) -> Iterator[None]:
    """Set the deadline of the calls in the `with` statement, and of the tasks that it starts."""
    token = _present.set(deadline)
    try:
        yield
    finally:
        _present.reset(token)
