"""The report of a benchmark: a printed table, and JSON with versions, commit and machine."""

import json
import math
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app import __version__

RESULTS = Path(__file__).parent / "results"


def write_report(name: str, figures: dict[str, Any]) -> None:
    """Print the figures and store them under `bench/results/`."""
    width = max(map(len, figures))
    print(f"\n{name}")
    for label, value in figures.items():
        print(
            f"  {label:<{width}}  {value:.1f}"
            if isinstance(value, float)
            else f"  {label:<{width}}  {value}"
        )
    RESULTS.mkdir(exist_ok=True)
    at = datetime.now(UTC)
    document = {"benchmark": name, "at": at.isoformat(), **_describe_machine(), "figures": figures}
    path = RESULTS / f"{name}-{at:%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"  → {path}")


def compute_percentile(values: list[float], share: float) -> float:
    """Return the percentile `share` (0 to 1) of the values, by nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _describe_machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "carillon": __version__,
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
    }


def measure_resident_mib(pid: int, line_name: str = "VmRSS") -> float:
    """Return the resident memory of a process in MiB; with `VmHWM` its peak. Raises LookupError if
    it is hidden."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{line_name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"/proc/{pid}/status has no line {line_name}")
