"""Instants have one text form: UTC, with milliseconds only if they are not zero."""

from datetime import UTC, datetime

import pytest

from app.models.record import rfc3339


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (datetime(2026, 11, 21, 5, 14, 20, 164_000, tzinfo=UTC), "2026-11-21T05:14:20.164Z"),
        (datetime(2026, 11, 21, 5, 14, 20, 4_999, tzinfo=UTC), "2026-11-21T05:14:20.004Z"),
        (datetime(2026, 11, 21, 5, 14, 20, 999, tzinfo=UTC), "2026-11-21T05:14:20Z"),
        (datetime(2026, 11, 21, 5, 14, tzinfo=UTC), "2026-11-21T05:14:00Z"),
        (datetime.fromisoformat("2026-11-21T05:14:00+01:30"), "2026-11-21T03:44:00Z"),
        (datetime(2026, 11, 23, 8, 0, 0, 50_000, tzinfo=UTC), "2026-11-23T08:00:00.050Z"),
    ],
)
def test_an_instant_has_one_form(instant: datetime, text: str) -> None:
    assert rfc3339(instant) == text
