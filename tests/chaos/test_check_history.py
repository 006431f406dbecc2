"""The laws on the history of the database: each write is examined."""

from typing import Any

import pytest

from tests.chaos.made_up import CLAIM, NOON, REMOVED, SECOND, at, change, insertion
from tests.support.changes import Change
from tests.support.history import History
from tests.support.replay import Replay, judge_history


def list_broken_laws(changes: list[Change]) -> set[str]:
    return {name for name, _, violations in judge_history(Replay(changes)) if violations}


def schedules(*next_runs: float) -> list[dict[str, Any]]:
    return [{"id": f"s{n}", "next_run": at(second)} for n, second in enumerate(next_runs)]


JOB = change("j", "insert", name="job", revision=1, next_run=at(1), schedules=schedules(1, 5))

HISTORIES = {
    "only legal moves": [insertion("e"), change("e", status="succeeded")],
    "tokens grow, and each has at most one attempt": [
        insertion("e"),
        change("e", **CLAIM),
        change("e", attempts=[{}]),
        change("e", attempts__1={}),
    ],
    "one live lease per job": [
        insertion("e"),
        insertion("f"),
        change("e", **CLAIM),
        change("f", **CLAIM),
    ],
    "next_run never moves back": [JOB, change("j", next_run=NOON - SECOND)],
    "no final record changes": [
        insertion("e"),
        change("e", **CLAIM),
        change("e", status="succeeded", finished_at=at(1)),
        change("e", live_for=REMOVED),
    ],
}


RESPONSE: dict[str, Any] = {
    "status_code": 200,
    "headers": ["a", "b"],
    "body": "text",
    "truncated": False,
}
DROPPED = RESPONSE | {"headers": [], "body": "", "truncated": True}


def end_with(**response: Any) -> list[Change]:
    """An execution whose response is changed after its end."""
    ended: dict[str, Any] = {"status": "succeeded", "finished_at": at(1)}
    return [
        insertion("e"),
        change("e", **CLAIM),
        change("e", attempts=[{"response": RESPONSE}], response_bytes=100, **ended),
        change("e", attempts=[{"response": RESPONSE | response}], response_bytes=REMOVED),
    ]


def test_a_final_record_may_lose_the_contents_of_its_responses() -> None:
    assert not list_broken_laws(end_with(**DROPPED))


@pytest.mark.parametrize(
    "response",
    [{"body": ""}, DROPPED | {"body": "other"}, DROPPED | {"status_code": 500}],
    ids=str,
)
def test_the_responses_of_a_final_record_do_not_change_otherwise(
    response: dict[str, Any],
) -> None:
    assert list_broken_laws(end_with(**response)) == {"no final record changes"}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_that_breaks_a_law_is_reported(name: str) -> None:
    assert list_broken_laws(HISTORIES[name]) == {name}


@pytest.mark.parametrize(
    "moved",
    [
        {"schedules": schedules(2, 4)},
        {"schedules__1__next_run": at(4)},
        {"next_run": None, "schedules__0__next_run": at(0)},
    ],
    ids=str,
)
def test_the_next_run_of_each_schedule_never_moves_back(moved: dict[str, Any]) -> None:
    assert list_broken_laws([JOB, change("j", **moved)]) == {"next_run never moves back"}
    assert not list_broken_laws([JOB, change("j", revision=2, **moved)])


def test_an_ended_schedule_does_not_begin_again() -> None:
    ended = change("j", schedules__1__next_run=None)
    again = change("j", schedules__1__next_run=at(9))
    assert list_broken_laws([JOB, ended, again]) == {"next_run never moves back"}


@pytest.mark.parametrize(
    "wrong",
    [{"lease_token": 0}, {"lease_owner": "b"}, {"status": "running", "lease_token": 1}],
    ids=str,
)
def test_a_wrong_change_of_a_lease_is_reported(wrong: dict[str, Any]) -> None:
    changes = [insertion("e"), change("e", **CLAIM)]
    if "status" in wrong:
        changes.append(change("e", status="queued"))
    changes.append(change("e", **wrong))
    assert list_broken_laws(changes) == {"tokens grow, and each has at most one attempt"}


def test_a_sound_history_passes() -> None:
    changes = [
        insertion("e"),
        insertion("f", live_for=None),
        change("f", **CLAIM),
        change("e", **CLAIM),
        change("e", attempts=[{}]),
        change("e", status="queued", lease_token=2),
        change("e", **(CLAIM | {"lease_token": 3})),
        change("e", attempts__1={}),
        change("e", status="succeeded"),
        JOB,
        change("j", next_run=None),
        change("j", revision=2, next_run=NOON - SECOND),
    ]
    assert not list_broken_laws(changes)


def test_the_history_follows_arrays_fields_and_removals() -> None:
    cut = Change(
        "jobs", "j", at(3), "update", {"schedules.0.next_run": at(7)}, (), (("schedules", 1),)
    )
    history = History([JOB, change("j", second=1, next_run=at(2)), cut])
    documents = [version.document for version in history.jobs["j"]]
    assert [document["next_run"] for document in documents] == [at(1), at(2), at(2)]
    assert [document["schedules"] for document in documents] == [
        schedules(1, 5),
        schedules(1, 5),
        schedules(7),
    ]


def test_the_history_knows_when_an_execution_was_live_waiting_and_claimed() -> None:
    waiting = {"live_for": None, "waiting": True, "place": 0}
    history = History(
        [
            insertion("e", 1, **waiting),
            change("e", second=2, waiting=False, live_for="j", place=REMOVED),
            change("e", second=3, **CLAIM),
            change("e", second=4, status="succeeded", live_for=REMOVED, finished_at=at(4)),
        ]
    )
    life = history.executions["e"]
    assert [(span.since, span.until) for span in life.waiting] == [(at(1), at(2))]
    assert [(span.since, span.until) for span in life.live] == [(at(2), at(4))]
    assert [(claim.at, claim.token) for claim in life.claims] == [(at(3), 1)]
