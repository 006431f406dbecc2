"""The journal of a chaos run: an append-only file of JSON lines."""

import contextlib
import dataclasses
import itertools
import json
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.chaos.evidence import Part


class Journal:
    """JSON lines of calls and reads, written when they end, and of faults, written before they
    begin and when they end."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._numbers = itertools.count()

    def write(self, kind: str, **line: object) -> None:
        content = json.dumps({"type": kind, **line}, default=_encode)
        os.write(self._file, content.encode() + b"\n")

    def record_fault(self, name: str, pid: int | None = None, *, part: Part = Part.SERVICE) -> int:
        """Call this just before the fault, if possible. Returns the number of the fault."""
        number = next(self._numbers)
        self.write("fault", number=number, name=name, part=part, pid=pid, at=time.time())
        return number

    def record_end(self, number: int) -> None:
        """Call this when the cause of the fault has ended."""
        self.write("fault", number=number, until=time.time())

    @contextlib.contextmanager
    def record_span(
        self, name: str, pid: int | None = None, *, part: Part = Part.SERVICE
    ) -> Iterator[None]:
        """Record a fault that lasts as long as the context."""
        number = self.record_fault(name, pid, part=part)
        try:
            yield
        finally:
            self.record_end(number)

    def close(self) -> None:
        os.close(self._file)


def _encode(value: object) -> Any:
    """Encode what JSON has no form for: instants as seconds since 1970, durations as seconds."""
    match value:
        case datetime():
            return value.timestamp()
        case timedelta():
            return value.total_seconds()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in the journal")
