"""The checker itself: correct evidence passes, and evidence of a run that tested nothing does not.

The other modules `test_check_*` damage correct evidence in one way each.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.evidence import Behaviour, Evidence, Fault, Load, Part
from tests.chaos.figures import compute_figures
from tests.chaos.invariants import judge
from tests.chaos.made_up import (
    JOB,
    at,
    attempt,
    delivery,
    execution,
    list_violated,
    make_abandoned_evidence,
    make_evidence,
    unstarted,
)
from tests.support.changes import Change


def test_sound_evidence_passes() -> None:
    findings = judge(make_evidence())
    assert not list_violated(make_evidence())
    assert {f.name: f.examined for f in findings}["no slot missing"] == 3


TEN = 10


def skip_all(evidence: Evidence) -> None:
    evidence.executions = [unstarted(n, "skipped", reason="overlap") for n in range(1, TEN + 1)]
    evidence.deliveries = []


def cancel_all(evidence: Evidence) -> None:
    evidence.executions = [
        unstarted(n, "cancelled", reason="cancelled_by_user") for n in range(1, TEN + 1)
    ]
    evidence.deliveries = []


def fail_all_after_one_attempt(evidence: Evidence) -> None:
    evidence.calls[0] = replace(evidence.calls[0], definition=replace(JOB, max_attempts=10))
    evidence.deliveries = [delivery(n, status=503) for n in range(1, TEN + 1)]
    failed: dict[str, Any] = {"outcome": "failed", "response": {"status": 503}}
    evidence.executions = [
        execution(n, status="failed", attempts=[attempt(n, **failed)]) for n in range(1, TEN + 1)
    ]


def record_200s_as_failures(evidence: Evidence) -> None:
    evidence.calls[0] = replace(evidence.calls[0], definition=replace(JOB, max_attempts=1))
    failed: dict[str, Any] = {"outcome": "failed", "response": {"status": 200}}
    evidence.executions = [
        execution(n, status="failed", attempts=[attempt(n, **failed)]) for n in range(1, TEN + 1)
    ]


def deliver_an_hour_late(evidence: Evidence) -> None:
    evidence.deliveries = [delivery(n, received_at=at(3600 + n + 0.05)) for n in range(1, TEN + 1)]
    evidence.executions = [execution(n, attempts=[attempt(3600 + n)]) for n in range(1, TEN + 1)]


def keep_live_for(evidence: Evidence) -> None:
    evidence.executions = [execution(n, live_for="j") for n in range(1, TEN + 1)]


WRONG_RUNS: dict[Callable[[Evidence], None], str] = {
    skip_all: "each skip has a cause",
    cancel_all: "each cancel has a cause",
    fail_all_after_one_attempt: "each failure has a cause",
    record_200s_as_failures: "each accepted attempt succeeds",
    deliver_an_hour_late: "starts in time",
    keep_live_for: "no lock on a final record",
}


@pytest.mark.parametrize("damage", WRONG_RUNS, ids=lambda damage: damage.__name__)
def test_a_run_in_which_everything_went_wrong_alike_is_reported(
    damage: Callable[[Evidence], None],
) -> None:
    evidence = make_evidence(TEN)
    assert not list_violated(evidence)
    damage(evidence)
    assert WRONG_RUNS[damage] in list_violated(evidence)


def test_an_empty_run_is_reported() -> None:
    assert list_violated(Evidence()) == {"enough was examined"}


A_CHANGE = Change("jobs", "k", at(0), "update", {})


def plan(**changes: object) -> Load:
    load = Load(
        jobs=1,
        slots_per_second=1,
        began_at=at(0.7),
        ended_at=at(3.5),
        faults={"kill": 1},
        calls=("pause",),
    )
    return replace(load, **changes)  # type: ignore[arg-type]


def test_a_run_that_did_what_was_planned_passes() -> None:
    evidence = make_evidence()
    evidence.changes, evidence.load = [A_CHANGE], plan()
    evidence.faults = [Fault("kill", at(1), 77)]
    assert not list_violated(evidence)


@pytest.mark.parametrize(
    "planned",
    [
        {"jobs": 2},
        {"ended_at": None},
        {"slots_per_second": 4},
        {"faults": {"kill": 2}},
        {"calls": ("cancel",)},
        {"calls": ("read",)},
        {"behaviours": (Behaviour.LARGE,)},
    ],
    ids=str,
)
def test_a_run_that_tested_less_than_was_planned_is_reported(planned: dict[str, object]) -> None:
    evidence = make_evidence()
    evidence.changes, evidence.load = [A_CHANGE], plan(**planned)
    evidence.faults = [Fault("kill", at(1), 77)]
    assert list_violated(evidence) == {"enough was examined"}


def test_a_planned_run_without_a_history_is_reported() -> None:
    evidence = make_evidence()
    evidence.load = plan(faults={})
    assert list_violated(evidence) == {"enough was examined"}


def test_slots_that_never_reached_the_receiver_are_reported() -> None:
    evidence = make_evidence(TEN)
    evidence.executions = [unstarted(n, "missed") for n in range(1, TEN + 1)]
    evidence.deliveries = []
    assert list_violated(evidence) == {"enough was examined"}


def test_redeliveries_and_takeovers_are_counted() -> None:
    evidence = make_abandoned_evidence()
    evidence.faults = [Fault("kill", at(1), 77), Fault("redis killed", at(1), part=Part.REDIS)]
    reported = compute_figures(evidence)
    assert reported["redeliveries"] == "1 (33.33 %)"
    assert reported["takeovers, p50, p95, max"] == "1, 6.000 s, 6.000 s, 6.000 s"
    assert reported["lateness p50, p95, p99, max"] == "0.050 s, 0.050 s, 0.050 s, 0.050 s"
