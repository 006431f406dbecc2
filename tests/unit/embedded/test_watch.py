"""How often an embedded server is looked at."""

from itertools import accumulate

from app.embedded.stores import next_pause


def test_a_server_that_ends_again_and_again_is_started_less_and_less_often() -> None:
    pauses = [
        *accumulate([True] * 8, lambda pause, dead: next_pause(pause, found_dead=dead), initial=1.0)
    ]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_server_that_stays_alive_is_looked_at_once_a_second_again() -> None:
    pauses = [
        *accumulate(
            [False] * 7, lambda pause, dead: next_pause(pause, found_dead=dead), initial=60.0
        )
    ]
    assert pauses == [60, 30, 15, 7.5, 3.75, 1.875, 1, 1]
