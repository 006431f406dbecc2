"""Periods as seconds, as text and as ISO 8601 durations."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from app.schemas.periods import Period

_PERIOD: TypeAdapter[int] = TypeAdapter(Period)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (600, 600),
        ("10m", 600),
        ("1h30m", 5_400),
        ("1h 30m", 5_400),
        ("7 days", 604_800),
        ("1 day", 86_400),
        ("90s", 90),
        ("2w", 1_209_600),
        ("1 hour 5 minutes 1 second", 3_901),
        ("1d12h", 129_600),
        ("10 mins", 600),
        ("0h5m", 300),
        ("PT10M", 600),
        ("P1DT1H", 90_000),
        ("8760h", 31_536_000),
    ],
)
def test_a_period_is_read(value: Any, seconds: int) -> None:
    assert _PERIOD.validate_python(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "10", "1.5h", "-5m", "+5m", "1:30", "12:00:00", "1 month", "1y", "P1M", "P1Y"),
        *("30m1h", "1h1h", "1h30", "10M", "5 m 3", "m", "10 m ", " 10m", "10m\n", "1,000s", "1e3s"),
        *(
            "10  m",
            "ten minutes",
            "10m" + "0" * 60,
            "\u0661m",
            "9999999999s",
            "0m",
            "366d",
            "8761h",
        ),
        *("every 5m", "@every 5m", "PT", "P", "PT1.5S", "-PT5M", 0, -1, 1.5, True, [], {"m": 1}),
    ],
)
def test_what_is_no_period_is_rejected(value: Any) -> None:
    with pytest.raises(ValidationError):
        _PERIOD.validate_python(value)
