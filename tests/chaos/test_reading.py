"""The journal and the receiver's log come back as they were written."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.chaos.evidence import (
    Call,
    Evidence,
    Fault,
    JobDefinition,
    Load,
    Part,
    Read,
    ReceivedDelivery,
    Result,
    ScheduleDefinition,
    ScheduleType,
)
from tests.chaos.journal import Journal
from tests.chaos.reading import read_deliveries, read_journal

NOON = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
SECOND = timedelta(seconds=1)

DEFINITION = JobDefinition(
    schedules=(
        ScheduleDefinition(period=2 * SECOND, anchor=NOON, jitter=SECOND, max_runs=3),
        ScheduleDefinition(key="b", type=ScheduleType.ONE_TIME, run_at=NOON, active=False),
    ),
    overlap_policy="buffer_one",
    window=timedelta(seconds=0.5),
    retry_on=("5xx", 429),
    behaviour="slow",
    description="é",
)


def test_the_journal_comes_back_as_it_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    instants = {"sent_at": NOON, "ended_at": NOON + SECOND}
    ids = {"a": "1", "b": "2"}
    journal.write(
        "call",
        verb="create",
        job="job 1",
        result=Result.OK,
        definition=DEFINITION,
        schedule_ids=ids,
        **instants,
    )
    journal.write("read", job="job 1", status=200, pid=7, next_run=NOON, **instants)
    journal.write("load", jobs=1, began_at=NOON)
    journal.write("load", ended_at=NOON + SECOND)
    with journal.record_span("freeze", 7):
        journal.record_fault("redis killed", part=Part.REDIS)
    journal.close()

    evidence = Evidence()
    read_journal(tmp_path / "journal", evidence)

    created = Call(
        "create",
        "job 1",
        Result.OK,
        NOON,
        NOON + SECOND,
        definition=DEFINITION,
        schedule_ids=ids,
    )
    assert evidence.calls == [created]
    assert evidence.reads == [Read("job 1", NOON, NOON + SECOND, 200, pid=7, next_run=NOON)]
    assert evidence.load == Load(jobs=1, began_at=NOON, ended_at=NOON + SECOND)
    freeze, kill = evidence.faults
    assert (freeze.name, freeze.pid, freeze.part) == ("freeze", 7, Part.SERVICE)
    assert freeze.at <= kill.at <= freeze.ended_at
    assert kill == Fault("redis killed", kill.at, part=Part.REDIS)


def test_a_request_and_its_response_are_one_delivery(tmp_path: Path) -> None:
    request = {
        "request": 0,
        "execution_id": "e1",
        "attempt": 1,
        "scheduled_for": NOON.isoformat(),
        "received_at": NOON.timestamp(),
        "behaviour": "slow",
    }
    response = {"request": 0, "status": 200, "responded_at": (NOON + SECOND).timestamp()}
    unanswered = request | {"request": 1, "execution_id": "e2"}
    lines = [json.dumps(line) for line in (request, unanswered, response)]
    (tmp_path / "log").write_text("\n".join([*lines, '{"request": 2, "exec']))

    evidence = Evidence()
    read_deliveries(tmp_path / "log", evidence)

    assert evidence.deliveries == [
        ReceivedDelivery("e1", 1, NOON, NOON, 200, NOON + SECOND, "slow"),
        ReceivedDelivery("e2", 1, NOON, NOON, None, behaviour="slow"),
    ]
