"""The types of values in requests."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.schemas.json_types import InputInstant, JsonValue, Text, TimeZone, time_zones

INSTANT = TypeAdapter[datetime](InputInstant)
JSON = TypeAdapter[Any](JsonValue)
TEXT = TypeAdapter[str](Text)
ZONE = TypeAdapter[str](TimeZone)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-23T09:00:00Z", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23t09:00:00z", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23 09:00:00+00:00", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23T10:30:00+01:30", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23T09:00:00.123999Z", datetime(2026, 11, 23, 9, 0, 0, 123_000, tzinfo=UTC)),
        ("2026-11-23T09:00:00.123456789Z", datetime(2026, 11, 23, 9, 0, 0, 123_000, tzinfo=UTC)),
        ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, tzinfo=UTC)),
        ("2100-12-31T23:59:59Z", datetime(2100, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_an_instant_is_utc_in_whole_milliseconds(text: str, instant: datetime) -> None:
    assert INSTANT.validate_python(text) == instant


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-23T09:00:00",
        "2026-11-23",
        "09:00:00Z",
        "2026-11-23T09:00Z",
        "2026-11-23T25:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-23T09:00:60Z",
        "2026-11-23T09:00:00+25:00",
        "1999-12-31T23:59:59Z",
        "2101-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "٢٠٢٦-11-23T09:00:00Z",
        " 2026-11-23T09:00:00Z",
        "2026-11-23T09:00:00Z\n",
        "",
        1_700_000_000,
        1.5,
        True,
        None,
        {"$gt": ""},
    ],
)
def test_an_invalid_instant_is_rejected(value: Any) -> None:
    with pytest.raises(ValidationError):
        INSTANT.validate_python(value)


@given(
    st.datetimes(datetime(2000, 1, 2), datetime(2100, 12, 30)),  # noqa: DTZ001
    st.integers(-14 * 60, 14 * 60),
)
def test_an_instant_is_the_same_in_every_offset(local: datetime, minutes: int) -> None:
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    text = f"{local.isoformat(timespec='milliseconds')}{sign}{hours:02}:{rest:02}"
    instant = INSTANT.validate_python(text)
    milliseconds = local.microsecond // 1000 * 1000
    expected = local.replace(microsecond=milliseconds) - timedelta(minutes=minutes)
    assert instant == expected.replace(tzinfo=UTC)


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/New_York", "Etc/GMT+5"])
def test_iana_names_are_time_zones(name: str) -> None:
    assert ZONE.validate_python(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "localtime",
        "Factory",
        "posixrules",
        "europe/berlin",
        "../../etc/passwd",
        "/etc/localtime",
        "Europe/Berlin\0",
        "Mars/Olympus",
        "+01:00",
        "x" * 10_000,
        5,
        None,
    ],
)
def test_other_values_are_not_time_zones(name: Any) -> None:
    with pytest.raises(ValidationError):
        ZONE.validate_python(name)


def test_the_zones_are_read_once() -> None:
    assert time_zones() is time_zones()


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "x\udfff", b"bytes", 5, None, ["x"]])
def test_a_text_that_cannot_be_stored_is_rejected(text: Any) -> None:
    with pytest.raises(ValidationError):
        TEXT.validate_python(text)


@pytest.mark.parametrize("text", ["", "é", "\u2028", "💣", "line\nbreak", "\x1b[31m"])
def test_any_other_text_stays_unchanged(text: str) -> None:
    assert TEXT.validate_python(text) == text


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(json_values)
def test_json_stays_unchanged(value: Any) -> None:
    assert JSON.validate_python(json.loads(json.dumps(value))) == value


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        -(2**63) - 1,
        float("inf"),
        float("nan"),
        "\0",
        "\ud800",
        {"\0": 1},
        {"a": {"\udfff": 1}},
        ["x" * 65_536],
        {1: 2},
        {"a": b"bytes"},
        {"a": {1, 2}},
    ],
)
def test_json_that_cannot_be_stored_is_rejected(value: Any) -> None:
    with pytest.raises(ValidationError):
        JSON.validate_python(value)


def test_json_has_at_most_32_levels() -> None:
    def nest(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = {"a": value}
        return value

    assert JSON.validate_python(nest(32)) == nest(32)
    with pytest.raises(ValidationError):
        JSON.validate_python(nest(33))
