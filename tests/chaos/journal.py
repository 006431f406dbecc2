"""The driver's journal: an append-only file of JSON lines."""

import json
import os
import time
from pathlib import Path


class Journal:
    """Records calls and faults when they are known."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, **line: object) -> None:
        os.write(self._file, json.dumps({"type": kind, **line}).encode() + b"\n")

    def fault(self, name: str, pid: int | None = None) -> None:
        """Record a fault; call it just before the fault, if possible."""
        self.write("fault", name=name, pid=pid, at=time.time())

    def close(self) -> None:
        os.close(self._file)
