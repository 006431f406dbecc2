"""Reads the results of a chaos run into memory: the database, its history, the logs.

The journal and the receiver's log are JSON lines; instants in them are seconds since 1970.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bson import Timestamp
from pymongo import MongoClient

from tests.chaos.evidence import (
    Call,
    Evidence,
    Fault,
    Gap,
    JobDefinition,
    Load,
    Part,
    Read,
    ReceivedDelivery,
    Result,
    ScheduleDefinition,
    ScheduleType,
)
from tests.support.changes import Document, read_changes


def read_journal(path: Path, evidence: Evidence) -> None:
    """Add the driver's calls and reads, the faults and the load."""
    load: Document = {}
    faults: dict[int, Document] = {}
    for line in _read_lines(path):
        match line.pop("type"):
            case "call":
                evidence.calls.append(_parse_call(line))
            case "read":
                evidence.reads.append(Read(**_parse_instants(line)))
            case "fault":  # its end is another line with the same number
                faults.setdefault(line["number"], {}).update(line)
            case "load":
                load |= line
    evidence.faults += map(_parse_fault, faults.values())
    evidence.load = Load(**_parse_instants(load))


def read_deliveries(path: Path, evidence: Evidence) -> None:
    """Add the deliveries. A request and its response are two lines with the same number."""
    requests: dict[int, Document] = {}
    for line in _read_lines(path):
        requests.setdefault(line.pop("request"), {}).update(line)
    for line in requests.values():
        slot = datetime.fromisoformat(line.pop("scheduled_for"))
        fields = {"status": None} | _parse_instants(line)
        evidence.deliveries.append(ReceivedDelivery(scheduled_for=slot, **fields))


def read_database(
    client: MongoClient[Document], name: str, evidence: Evidence, *, since: Timestamp | None
) -> None:
    """Add the stored documents, and with `since` every change from that operation time on.

    Raises what `read_changes` raises.
    """
    database = client.get_database(name)
    evidence.jobs = list(database["jobs"].find())
    evidence.executions = list(database["executions"].find().sort("_id"))
    scheduling = database["meta"].find_one({"_id": "scheduling"})
    if scheduling is not None:
        evidence.gaps = [
            Gap(gap["after"], gap["until"], gap["found_at"]) for gap in scheduling["gaps"]
        ]
    if since is not None:
        evidence.changes += read_changes(database, since=since)


def _parse_fault(line: Document) -> Fault:
    del line["number"]
    part = Part(line.pop("part"))
    return Fault(part=part, **_parse_instants(line))


def _parse_call(line: Document) -> Call:
    definition = line.pop("definition", None)
    return Call(
        result=Result(line.pop("result")),
        definition=None if definition is None else _parse_job(definition),
        **_parse_instants(line),
    )


def _parse_job(line: Document) -> JobDefinition:
    schedules = tuple(_parse_schedule(one) for one in line.pop("schedules"))
    retry_on = line.pop("retry_on")
    return JobDefinition(
        schedules=schedules,
        retry_on=None if retry_on is None else tuple(retry_on),
        **_parse_durations(line, "window", "timeout", "retry_delay"),
    )


def _parse_schedule(line: Document) -> ScheduleDefinition:
    durations = _parse_durations(line, "period", "jitter")
    type_ = ScheduleType(durations.pop("type"))
    return ScheduleDefinition(type=type_, **_parse_instants(durations, "anchor", "run_at"))


_INSTANTS = (
    *("at", "until", "sent_at", "ended_at", "began_at", "start", "end"),
    *("received_at", "responded_at", "last_run", "next_run"),
)


def _parse_instants(line: Document, *names: str) -> dict[str, Any]:
    """Return the line with datetimes in place of seconds since 1970."""
    return {
        name: datetime.fromtimestamp(value, UTC)
        if name in (names or _INSTANTS) and value is not None
        else value
        for name, value in line.items()
    }


def _parse_durations(line: Document, *names: str) -> dict[str, Any]:
    return {
        name: timedelta(seconds=value) if name in names and value is not None else value
        for name, value in line.items()
    }


def _read_lines(path: Path) -> Iterator[Document]:
    """The last line may be incomplete if its writer was killed."""
    for line in path.read_bytes().split(b"\n"):
        try:
            yield json.loads(line)
        except ValueError:
            continue
