"""The oracle: which slots must and may have a record, after calls of every kind."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.evidence import (
    Call,
    Evidence,
    Gap,
    JobDefinition,
    Result,
    ScheduleDefinition,
    ScheduleType,
)
from tests.chaos.oracle import Expected, compute_expected_slots
from tests.chaos.schedule_keys import map_schedules
from tests.support.changes import Change

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

EVERY_SECOND = ScheduleDefinition(anchor=NOON - 5 * SECOND, period=SECOND)
JOB = JobDefinition(schedules=(EVERY_SECOND,))


def seconds(*numbers: float) -> set[datetime]:
    return {NOON + n * SECOND for n in numbers}


def call(verb: str, at: float, result: Result = Result.OK, **facts: Any) -> Call:
    sent = NOON + at * SECOND
    return Call(verb, "job", result, sent, sent + 0.2 * SECOND, **facts)


def create(job: JobDefinition = JOB, at: float = 0.5) -> Call:
    return call("create", at, definition=job)


def expect(*calls: Call, until: float = 6, gaps: list[Gap] | None = None) -> Expected:
    by_key = compute_expected_slots(calls, until=NOON + until * SECOND, gaps=gaps)
    return by_key["job", "a"]


def test_slots_are_expected_from_the_creation_to_the_pause() -> None:
    expected = expect(create(), call("pause", 3.5))
    assert expected.must == expected.may == seconds(1, 2, 3)


def test_a_slot_during_a_call_may_be_recorded() -> None:
    expected = expect(create(), call("pause", 2.9), call("resume", 3.9))
    assert expected.must == seconds(1, 2, 5, 6)
    assert expected.may == seconds(1, 2, 3, 4, 5, 6)


def test_an_unknown_pause_leaves_the_state_open_until_the_next_acknowledged_call() -> None:
    expected = expect(create(), call("pause", 2.5, Result.UNKNOWN), call("resume", 4.5))
    assert expected.must == seconds(1, 2, 5, 6)
    assert expected.may == seconds(1, 2, 3, 4, 5, 6)


def test_a_rejected_pause_changes_nothing() -> None:
    assert expect(create(), call("pause", 2.5, Result.FAILED)).must == seconds(1, 2, 3, 4, 5, 6)


def test_an_edit_of_the_period_keeps_the_anchor() -> None:
    slower = replace(JOB, schedules=(replace(EVERY_SECOND, period=2 * SECOND),))
    expected = expect(create(), call("edit", 2.5, definition=slower))
    assert expected.must == expected.may == seconds(1, 2, 3, 5)


def test_a_slot_of_both_rules_must_be_recorded_even_during_the_edit() -> None:
    slower = replace(JOB, schedules=(replace(EVERY_SECOND, period=2 * SECOND),))
    assert NOON + 3 * SECOND in expect(create(), call("edit", 2.9, definition=slower)).must


def test_a_removed_schedule_has_no_slots_and_an_added_one_has() -> None:
    added = replace(EVERY_SECOND, key="b", anchor=NOON + 0.5 * SECOND)
    other = replace(JOB, schedules=(added,))
    calls = [create(), call("edit", 3.1, definition=other), call("delete", 5.1)]
    expected = compute_expected_slots(calls, until=NOON + 9 * SECOND)
    assert expected["job", "a"].must == seconds(1, 2, 3)
    assert expected["job", "b"].must == seconds(3.5, 4.5)


def test_an_inactive_schedule_has_no_slots() -> None:
    stopped = replace(JOB, schedules=(replace(EVERY_SECOND, active=False),))
    assert expect(create(), call("edit", 2.5, definition=stopped)).may == seconds(1, 2)


def test_cron_counts_from_the_minute_and_a_one_time_schedule_has_one_slot() -> None:
    every_2 = ScheduleDefinition(key="cron", type=ScheduleType.CRON, period=2 * SECOND)
    once = ScheduleDefinition(key="once", type=ScheduleType.ONE_TIME, run_at=NOON + 3.25 * SECOND)
    job = JobDefinition(schedules=(every_2, once))
    expected = compute_expected_slots([create(job)], until=NOON + 6 * SECOND)
    assert expected["job", "cron"].must == seconds(2, 4, 6)
    assert expected["job", "once"].must == seconds(3.25)


def test_a_one_time_slot_that_passes_while_its_job_is_paused_is_not_recorded() -> None:
    once = ScheduleDefinition(type=ScheduleType.ONE_TIME, run_at=NOON + 3 * SECOND)
    job = JobDefinition(schedules=(once,))
    assert not expect(create(job), call("pause", 2), call("resume", 4)).may


def test_no_slot_is_expected_after_max_runs() -> None:
    limited = replace(JOB, schedules=(replace(EVERY_SECOND, max_runs=2),))
    expected = expect(create(limited))
    assert expected.limit(seconds(1)).must == seconds(1, 2, 3, 4, 5, 6)
    assert expected.limit(seconds(1, 3)).must == seconds(1, 2, 3)
    assert expected.limit(seconds(1, 3, 5)).may == seconds(1, 2, 3)


GAP = Gap(NOON + 1.5 * SECOND, NOON + 4.5 * SECOND)


@pytest.mark.parametrize(
    ("policy", "window", "runs"),
    [
        ("none", 60, ()),
        ("one", 60, (4,)),
        ("one", 0.4, ()),
        ("all", 60, (2, 3, 4)),
        ("all", 1.5, (3, 4)),
    ],
)
def test_the_catch_up_policy_decides_about_the_slots_of_a_gap(
    policy: str, window: float, runs: tuple[int, ...]
) -> None:
    expected = expect(create(replace(JOB, catch_up=policy, window=window * SECOND)), gaps=[GAP])
    assert expected.must == seconds(1, 2, 3, 4, 5, 6)
    assert expected.must_run == seconds(1, 5, 6) | seconds(*runs)
    assert expected.may_miss == expected.must_miss == seconds(2, 3, 4) - seconds(*runs)


def test_the_window_counts_from_the_instant_at_which_the_gap_was_found() -> None:
    job = replace(JOB, catch_up="all", window=4.5 * SECOND)
    gap = replace(GAP, found_at=NOON + 8 * SECOND)
    assert expect(create(job), gaps=[gap]).may_miss == seconds(2, 3)


def test_each_gap_is_decided_on_its_own() -> None:
    job = replace(JOB, catch_up="one")
    gaps = [Gap(NOON, NOON + 2.5 * SECOND), Gap(NOON + 2.5 * SECOND, NOON + 4 * SECOND)]
    assert expect(create(job), gaps=gaps).may_miss == seconds(1, 3)


@pytest.mark.parametrize(("policy", "missed"), [("one", ()), ("all", ()), ("none", (2, 3))])
def test_each_late_slot_may_run_if_a_call_in_the_gap_leaves_the_state_open(
    policy: str, missed: tuple[int, ...]
) -> None:
    """Only the policy that executes none is certain."""
    calls = [create(replace(JOB, catch_up=policy)), call("pause", 3.9), call("resume", 4.2)]
    expected = expect(*calls, gaps=[GAP])
    assert expected.must_run == seconds(1, 5, 6)
    assert expected.may_miss == seconds(2, 3, 4)
    assert expected.must_miss == seconds(*missed)


def test_without_stored_gaps_each_slot_may_be_missed() -> None:
    expected = expect(create())
    assert not expected.must_run
    assert expected.may_miss == expected.may


def test_ids_of_schedules_come_from_the_responses() -> None:
    acknowledged = replace(create(), schedule_ids={"a": "1"})
    assert map_schedules(Evidence(calls=[acknowledged])) == {"1": ("job", "a")}


def test_a_schedule_of_an_unknown_creation_is_found_by_its_rule() -> None:
    cron = ScheduleDefinition(key="b", type=ScheduleType.CRON, period=2 * SECOND)
    job = replace(JOB, schedules=(EVERY_SECOND, cron))
    stored = [
        {"id": "2", "type": "cron", "cron_expression": "*/2 * * * * *"},
        {
            "id": "1",
            "type": "interval",
            "interval_seconds": 1,
            "anchor_at": EVERY_SECOND.anchor,
        },
    ]
    inserted = Change("jobs", "j", NOON, "insert", {"name": "job", "schedules": stored})
    unknown = call("create", 0.5, Result.UNKNOWN, definition=job)
    keys = map_schedules(Evidence(calls=[unknown], changes=[inserted]))
    assert keys == {"1": ("job", "a"), "2": ("job", "b")}


def test_the_only_schedule_of_a_job_needs_no_id() -> None:
    execution = {"_id": "e", "job_id": "j", "schedule_id": "s"}
    evidence = Evidence(
        calls=[create()], executions=[execution], jobs=[{"_id": "j", "name": "job"}]
    )
    assert map_schedules(evidence) == {"s": ("job", "a")}
