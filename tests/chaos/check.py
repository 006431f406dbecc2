"""The checker: `python -m tests.chaos.check --uri URI --journal FILE --receiver FILE`.

Prints a table of the invariants with the numbers of examined and violated items, and the figures of
the run. Exits with 1 if an invariant is violated.
"""

import argparse
import sys
from pathlib import Path

from bson import Timestamp
from pymongo import MongoClient

from tests.chaos.evidence import Evidence
from tests.chaos.figures import compute_figures
from tests.chaos.invariants import judge
from tests.chaos.invariants.examination import Finding
from tests.chaos.reading import read_database, read_deliveries, read_journal
from tests.support.changes import Document

_MOST_SHOWN = 5


def report(evidence: Evidence) -> frozenset[str]:
    """Print the table and return the names of the violated invariants."""
    findings = judge(evidence)
    _write(f"{'invariant':34} {'examined':>9} {'violated':>9}")
    for finding in findings:
        _write(f"{finding.name:34} {finding.examined:9} {len(finding.violations):9}")
    for finding in findings:
        _show(finding)
    for name, value in compute_figures(evidence).items():
        _write(f"{name:34} {value}")
    violated = frozenset(finding.name for finding in findings if finding.violations)
    _write("VIOLATED" if violated else "every invariant holds")
    return violated


def _show(finding: Finding) -> None:
    for violation in finding.violations[:_MOST_SHOWN]:
        _write(f"! {finding.name}: {violation}")
    if len(finding.violations) > _MOST_SHOWN:
        _write(f"! {finding.name}: and {len(finding.violations) - _MOST_SHOWN} more")


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.check", description=__doc__)
    parser.add_argument("--uri", required=True, help="of the MongoDB replica set")
    parser.add_argument("--database", default="carillon")
    parser.add_argument(
        "--journal", type=Path, required=True, help="the journal of the driver, JSON lines"
    )
    parser.add_argument(
        "--receiver", type=Path, required=True, help="the log of the receiver, JSON lines"
    )
    parser.add_argument(
        "--since", type=int, help="seconds since 1970: also read every change since then"
    )
    options = parser.parse_args()
    evidence = Evidence()
    read_journal(options.journal, evidence)
    read_deliveries(options.receiver, evidence)
    since = None if options.since is None else Timestamp(options.since, 1)
    client: MongoClient[Document]
    with MongoClient(options.uri, tz_aware=True, timeoutMS=60_000) as client:
        read_database(client, options.database, evidence, since=since)
    sys.exit(1 if report(evidence) else 0)


if __name__ == "__main__":
    main()
