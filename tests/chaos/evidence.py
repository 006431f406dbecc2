"""Reads the results of a chaos run into memory: the database, its history, the logs.

The journal and the receiver's log are JSON lines; instants in them are seconds since 1970. All
programs run on one machine, so they share one clock with the database.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from bson import Timestamp
from pymongo import MongoClient

from tests.support.changes import Change, Document, read_changes


class Result(StrEnum):
    """What the driver knows about a call."""

    OK = "ok"
    FAILED = "failed"
    """The call was rejected, or never sent."""
    UNKNOWN = "unknown"
    """There was no response, or a 5xx: the call may have had an effect."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API by the driver that writes."""

    verb: str
    """`create`, `edit`, `pause`, `resume`, `delete` or `execute`."""
    job: str
    """The name of the job, which is unique."""
    result: Result
    sent_at: datetime
    ended_at: datetime
    start_at: datetime | None = None
    """For `create`: the anchor of the interval."""
    period: timedelta | None = None
    execution_id: str | None = None
    """For `execute`, if it was acknowledged."""
    revision: int | None = None
    """For `edit`: the revision that the acknowledged edit made."""


class Part(StrEnum):
    """What a fault affects."""

    SERVICE = "service"
    DATABASE = "database"
    REDIS = "redis"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was applied to the service or its databases."""

    name: str
    at: datetime
    pid: int | None = None
    """The affected process of the service; None if unknown or if another server is affected."""
    part: Part = Part.SERVICE


@dataclass(frozen=True, slots=True)
class ReceivedDelivery:
    """One request that reached the receiver."""

    execution_id: str
    attempt: int
    scheduled_for: datetime
    received_at: datetime
    status: int | None
    """The status of the response; None if the sender did not wait for it."""
    responded_at: datetime | None = None


@dataclass(kw_only=True)
class Evidence:
    """Everything that the checker examines."""

    jobs: list[Document] = field(default_factory=list)
    executions: list[Document] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    deliveries: list[ReceivedDelivery] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_journal(path: Path, evidence: Evidence) -> None:
    """Add the driver's calls and the faults."""
    for line in _read_lines(path):
        if line["type"] == "fault":
            evidence.faults.append(_read_fault(line))
        elif line["type"] == "call":
            evidence.calls.append(_read_call(line))


def read_deliveries(path: Path, evidence: Evidence) -> None:
    """Add the deliveries. A request and its response are two lines with the same number."""
    requests: dict[int, Document] = {}
    for line in _read_lines(path):
        requests.setdefault(line["request"], {}).update(line)
    evidence.deliveries += [
        ReceivedDelivery(
            execution_id=line["execution_id"],
            attempt=line["attempt"],
            scheduled_for=datetime.fromisoformat(line["scheduled_for"]),
            received_at=_parse_instant(line["received_at"]),
            status=line.get("status"),
            responded_at=_parse_instant(line["responded_at"]) if "responded_at" in line else None,
        )
        for line in requests.values()
    ]


def read_database(
    client: MongoClient[Document], name: str, evidence: Evidence, *, since: Timestamp | None
) -> None:
    """Add the stored documents, and with `since` every change from that operation time on.

    Raises what `read_changes` raises.
    """
    database = client.get_database(name)
    evidence.jobs = list(database["jobs"].find())
    evidence.executions = list(database["executions"].find().sort("_id"))
    if since is not None:
        evidence.changes += read_changes(database, since=since)


def _read_fault(line: Document) -> Fault:
    return Fault(line["name"], _parse_instant(line["at"]), line["pid"], Part(line["part"]))


def _read_call(line: Document) -> Call:
    period, start_at = line.get("period"), line.get("start_at")
    return Call(
        verb=line["verb"],
        job=line["job"],
        result=Result(line["result"]),
        sent_at=_parse_instant(line["sent_at"]),
        ended_at=_parse_instant(line["ended_at"]),
        start_at=None if start_at is None else datetime.fromisoformat(start_at),
        period=None if period is None else timedelta(seconds=period),
        execution_id=line.get("execution_id"),
        revision=line.get("revision"),
    )


def _read_lines(path: Path) -> Iterator[Document]:
    """The last line may be incomplete if its writer was killed."""
    for line in path.read_bytes().split(b"\n"):
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _parse_instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
