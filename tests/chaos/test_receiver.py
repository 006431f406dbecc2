"""What the receiver of a chaos run responds depends only on the execution and the attempt."""

from tests.chaos.evidence import Behaviour
from tests.chaos.receiver import choose_seconds, choose_status

IDS = [f"execution {n}" for n in range(300)]


def list_statuses(behaviour: str, attempt: int) -> set[int]:
    return {choose_status(behaviour, id_, attempt) for id_ in IDS}


def test_a_plain_receiver_fails_at_most_the_first_attempt() -> None:
    assert list_statuses(Behaviour.PLAIN, 1) == {200, 503}
    assert list_statuses(Behaviour.PLAIN, 2) == {200}


def test_a_flaky_receiver_may_fail_each_attempt_but_not_ten_in_a_row() -> None:
    for attempt in range(1, 10):
        assert list_statuses(Behaviour.FLAKY, attempt) == {200, 503}
    for id_ in IDS:
        assert any(choose_status(Behaviour.FLAKY, id_, n) == 200 for n in range(1, 11))


def test_some_receivers_always_fail() -> None:
    assert list_statuses(Behaviour.FAILING, 1) == {500}
    assert list_statuses(Behaviour.REJECTING, 1) == {400}


def test_about_half_of_the_slow_executions_take_longer_than_the_period() -> None:
    longer = sum(choose_seconds(Behaviour.SLOW, id_) > 2 for id_ in IDS)
    assert 100 < longer < 200
