"""The checker reports lost writes, changed content, and reads that are older than promised."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.evidence import Call, Evidence, Fault, Part, Read, Result
from tests.chaos.made_up import (
    EVERY_SECOND,
    JOB,
    at,
    call,
    change,
    creation,
    list_violated,
    make_evidence,
)
from tests.support.changes import Document


@pytest.mark.parametrize(
    "lost",
    [
        call("execute", 2, execution_id="nowhere"),
        call("cancel", 2, execution_id="nowhere"),
        call("cancel", 2, execution_id="e1"),
        call("resume", 3.8),
        call("delete", 3.8),
    ],
    ids=lambda lost: f"{lost.verb} {lost.execution_id}",
)
def test_a_lost_acknowledged_write_is_reported(lost: Call) -> None:
    evidence = make_evidence()
    evidence.calls.append(lost)
    assert "acknowledged writes kept" in list_violated(evidence)


def test_a_lost_edit_is_reported() -> None:
    for lost in ([2, 2], [3]):
        evidence = make_evidence()
        evidence.jobs[0]["revision"] = 2
        evidence.calls += [call("edit", 2, revision=revision) for revision in lost]
        assert list_violated(evidence) == {"no edit lost"}
    evidence.jobs[0]["revision"] = 3
    assert not list_violated(evidence)


def test_a_lost_creation_is_reported() -> None:
    evidence = make_evidence()
    evidence.jobs, evidence.executions, evidence.deliveries = [], [], []
    lost = {"acknowledged writes kept", "no slot missing"}
    assert list_violated(evidence) == lost | {"enough was examined"}


@pytest.mark.parametrize(("pid", "allowed"), [(77, True), (78, False), (None, True)])
def test_a_long_call_is_reported_unless_its_process_was_frozen(
    pid: int | None, *, allowed: bool
) -> None:
    evidence = make_evidence()
    evidence.calls[0] = replace(creation(), sent_at=at(-10), pid=pid)
    assert list_violated(evidence) == {"calls end within 10 s"}
    evidence.faults = [Fault("freeze", at(-9), 77)]
    assert ("calls end within 10 s" not in list_violated(evidence)) == allowed


def edit(sent: float, revision: int | None, text: str, **changes: Any) -> Call:
    return call("edit", sent, revision=revision, description=text, **changes)


def test_an_edit_that_is_stored_with_other_content_is_reported() -> None:
    evidence = make_evidence()
    evidence.calls += [edit(1, 2, "one"), edit(2, 3, "two")]
    evidence.jobs[0] |= {"revision": 3, "description": "two"}
    assert not list_violated(evidence)
    evidence.jobs[0]["description"] = "one"
    assert list_violated(evidence) == {"edits stored as sent"}


def test_a_later_edit_without_a_response_may_have_changed_the_content() -> None:
    evidence = make_evidence()
    evidence.jobs[0] |= {"revision": 3, "description": "two"}
    evidence.calls += [edit(1, 2, "one"), edit(2, None, "two", result=Result.UNKNOWN)]
    assert not list_violated(evidence)


def test_each_revision_in_the_history_is_compared_with_its_edit() -> None:
    evidence = make_evidence()
    evidence.jobs[0] |= {"revision": 3, "description": "two"}
    evidence.calls += [edit(1, 2, "one"), edit(2, 3, "two")]
    evidence.changes = [
        change("j", "insert", name="job", revision=1, description=""),
        change("j", revision=2, description="one"),
        change("j", revision=3, description="two"),
    ]
    assert not list_violated(evidence)
    evidence.changes[1] = change("j", revision=2, description="another")
    assert list_violated(evidence) == {"edits stored as sent"}


STORED: Document = {
    "id": "s",
    "type": "interval",
    "interval_seconds": 1,
    "anchor_at": at(-1),
    "active": True,
    "max_runs": None,
    "jitter_seconds": 0,
}


@pytest.mark.parametrize(
    ("stored", "in_job"),
    [
        (STORED, {}),
        (STORED | {"interval_seconds": 2}, {}),
        (STORED | {"max_runs": 7}, {}),
        (STORED | {"active": False}, {}),
        (STORED | {"id": "t"}, {}),
        (STORED, {"overlap_policy": "allow_all"}),
    ],
    ids=str,
)
def test_schedules_are_stored_as_sent(stored: Document, in_job: Document) -> None:
    evidence = make_evidence()
    evidence.calls[0] = creation(revision=1, schedule_ids={EVERY_SECOND.key: "s"})
    evidence.jobs[0] |= {"overlap_policy": JOB.overlap_policy, "schedules": [stored]} | in_job
    sound = stored == STORED and not in_job
    assert ("edits stored as sent" not in list_violated(evidence)) == sound


def read(sent: float, **changes: Any) -> Read:
    fields: dict[str, Any] = {"status": 200, "revision": 2, "description": "one", "active": True}
    return Read("job", at(sent), at(sent + 0.1), **(fields | changes))


def make_read_evidence(*reads: Read) -> Evidence:
    """Make evidence with an edit to revision 2 at 1.2 s, a pause to 3 at 3.7 s, and reads."""
    evidence = make_evidence()
    evidence.calls = [
        creation(revision=1, description=""),
        edit(1, 2, "one"),
        call("pause", 3.5, revision=3),
    ]
    evidence.jobs[0] |= {"revision": 3, "description": "one"}
    evidence.reads = list(reads)
    return evidence


PAUSED: dict[str, Any] = {"revision": 3, "active": False}


@pytest.mark.parametrize(
    ("one", "sound"),
    [
        (read(0.9, revision=1, description=""), True),
        (read(1.1, revision=1, description=""), True),
        (read(1.1), True),
        (read(1.3), True),
        (read(1.3, revision=1, description=""), False),
        (read(1.3, description=""), False),
        (read(1.3, status=404, revision=None), False),
        (read(0.1, status=404, revision=None), True),
        (read(3.6), True),
        (read(4), False),
        (read(4, **PAUSED), True),
        (read(4, revision=3, active=True), False),
    ],
    ids=str,
)
def test_a_read_shows_every_write_that_was_acknowledged_before(one: Read, *, sound: bool) -> None:
    assert ("reads are not outdated" not in list_violated(make_read_evidence(one))) == sound


def test_a_job_is_not_read_after_its_deletion() -> None:
    evidence = make_read_evidence(read(4, **PAUSED), read(6, status=404, revision=None))
    evidence.calls.append(call("delete", 5))
    evidence.jobs = []
    evidence.changes = [change("j", "insert", name="job", revision=1)]
    evidence.reads[0] = read(5.3, **PAUSED)
    assert "reads are not outdated" in list_violated(evidence)
    evidence.reads[0] = read(5.3, status=404, revision=None)
    assert "reads are not outdated" not in list_violated(evidence)


def test_a_fault_of_redis_may_leave_outdated_responses_for_a_minute() -> None:
    old = {"revision": 1, "description": ""}
    evidence = make_read_evidence(read(60, **old))
    evidence.faults = [Fault("redis frozen", at(0.9), part=Part.REDIS, until=at(2))]
    evidence.calls.pop()
    assert "reads are not outdated" not in list_violated(evidence)
    evidence.reads = [read(62, **old)]
    assert "reads are not outdated" in list_violated(evidence)


def make_versions() -> Evidence:
    """Make evidence in which the service moves `next_run` at 100 and 200 s."""
    evidence = make_evidence()
    evidence.changes = [
        change("j", "insert", name="job", revision=1, next_run=at(100)),
        change("j", second=100, next_run=at(200)),
        change("j", second=200, next_run=at(300), last_run=at(200)),
    ]
    return evidence


@pytest.mark.parametrize(
    ("sent", "next_run", "last_run", "sound"),
    [
        (90, 100, None, True),
        (90, 200, None, False),
        (103, 200, None, True),
        (103, 100, None, True),
        (110, 100, None, False),
        (203, 300, 200, True),
        (203, 200, None, True),
        (210, 300, None, False),
        (203, 250, 200, False),
    ],
)
def test_what_the_service_changes_is_at_most_three_seconds_old(
    sent: float, next_run: float, last_run: float | None, *, sound: bool
) -> None:
    evidence = make_versions()
    last = None if last_run is None else at(last_run)
    evidence.reads = [read(sent, revision=1, next_run=at(next_run), last_run=last)]
    assert ("reads are not outdated" not in list_violated(evidence)) == sound


@pytest.mark.parametrize("part", Part)
@pytest.mark.parametrize(
    ("fault_at", "sent", "sound"),
    [
        (99, 110, True),
        (99, 158, True),
        (99, 163, False),
        (45, 110, False),
        (170, 110, False),
    ],
)
def test_what_the_service_changes_is_at_most_a_minute_old_after_a_fault(
    part: Part, fault_at: float, sent: float, *, sound: bool
) -> None:
    evidence = make_versions()
    evidence.faults = [Fault("a fault", at(fault_at), part=part, until=at(fault_at + 2))]
    evidence.reads = [read(sent, revision=1, next_run=at(100))]
    assert ("reads are not outdated" not in list_violated(evidence)) == sound


def test_a_lost_primary_may_undo_what_a_read_showed() -> None:
    evidence = make_versions()
    evidence.reads = [read(90, revision=1, next_run=at(95))]
    evidence.faults = [Fault("primary killed", at(80), None, Part.DATABASE, until=at(85))]
    assert "reads are not outdated" not in list_violated(evidence)
