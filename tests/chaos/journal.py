"""The journal of a chaos run: an append-only file of JSON lines."""

import json
import os
import time
from pathlib import Path

from tests.chaos.evidence import Part


class Journal:
    """JSON lines of calls, written when they end, and of faults, written before they begin."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, **line: object) -> None:
        os.write(self._file, json.dumps({"type": kind, **line}).encode() + b"\n")

    def record_fault(self, name: str, pid: int | None = None, *, part: Part = Part.SERVICE) -> None:
        """Call this just before the fault, if possible."""
        self.write("fault", name=name, part=part, pid=pid, at=time.time())

    def close(self) -> None:
        os.close(self._file)
