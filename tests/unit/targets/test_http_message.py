"""The functions on HTTP messages that need no network."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.targets.http_message import MAX_RETRY_AFTER, parse_retry_after
from tests.support.clock import START

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (None, None),
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("604800", 604_800),
        ("604801", 604_800),
        ("9" * 20, 604_800),
        ("9" * 21, 604_800),
        ("0" * 30 + "7", 7),
        ("Mon, 23 Nov 2026 08:01:30 GMT", 90),
        ("Monday, 23-Nov-26 08:01:30 GMT", 90),
        ("Mon Nov 23 08:01:30 2026", 90),
        ("Mon, 23 Nov 2026 09:01:30 +0100", 90),
        ("Mon, 23 Nov 2026 08:01:30 -0000", 90),
        ("Mon, 23 Nov 2026 07:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 604_800),
        ("Mon, 01 Jan 0001 00:00:00 +2300", 0),
        ("", None),
        ("-5", None),
        ("+5", None),
        ("1.5", None),
        ("1e9", None),
        ("٣", None),
        ("9" * 5_000, 604_800),
        ("soon", None),
        ("Mon, 99 Nov 2026 08:01:30 GMT", None),
        ("2026-11-23T08:01:30Z", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date_and_clamped(
    value: str | None, wait: int | None
) -> None:
    expected = None if wait is None else wait * SECOND
    assert parse_retry_after(value, START) == expected


@given(st.text() | st.from_regex(r"\A\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [-+]?\w+\Z"))
def test_every_retry_after_is_within_bounds_or_ignored(value: str) -> None:
    wait = parse_retry_after(value, START)
    assert wait is None or timedelta(0) <= wait <= MAX_RETRY_AFTER
