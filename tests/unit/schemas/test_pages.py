"""A cursor of a page is read back unchanged. A modified cursor is rejected."""

import base64
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.errors import InvalidInputError
from app.schemas.jobs import JobCreate
from app.schemas.pages import PageQuery, decode_cursor, encode_cursor
from app.services.paging import decode_execution_cursor, encode_execution_cursor

ID = "0123456789abcdef" * 2
FIRST_INSTANT = datetime(2000, 1, 1, tzinfo=UTC)


def encode_text(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_a_job_cursor_is_valid_only_for_its_query() -> None:
    cursor = encode_cursor("name", [ID, "a job"])
    assert decode_cursor("name", cursor) == [ID, "a job"]
    for query, sent in (("-name", cursor), ("name", cursor[:-4] + "AAAA")):
        with pytest.raises(InvalidInputError):
            decode_cursor(query, sent)


def read_any_job_cursor(cursor: str) -> object:
    return decode_cursor("name", cursor)


def read_any_execution_cursor(cursor: str) -> object:
    return decode_execution_cursor("query", cursor)


@given(st.integers(0, 100 * 365 * 86_400_000))
def test_an_execution_cursor_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    slot = FIRST_INSTANT + timedelta(milliseconds=milliseconds)
    cursor = encode_execution_cursor("query", slot, ID)
    assert decode_execution_cursor("query", cursor) == (slot, ID)
    with pytest.raises(InvalidInputError):
        decode_execution_cursor("another query", cursor)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "%%%",
        "====",
        encode_text("null"),
        encode_text("[]"),
        encode_text("{}"),
        encode_text("[5]"),
        encode_text('["x"]'),
        encode_text(f'["{ID}", 1]'),
        encode_text(f'[1.5, "{ID}"]'),
        encode_text(f'[true, "{ID}", 1]'),
        encode_text(f'[{10**18}, "{ID}"]'),
        encode_text(f'[-{10**15}, "{ID}"]'),
        encode_text(f'[1, "{ID}"]'),
        encode_text('[1700000000000, {"$gt": ""}]'),
        encode_text("[" * 100),
    ],
)
def test_an_invalid_cursor_is_rejected(cursor: str) -> None:
    for read in (read_any_job_cursor, read_any_execution_cursor):
        with pytest.raises(InvalidInputError) as rejected:
            read(cursor)
        assert rejected.value.errors[0].pointer == "/query/cursor"


@given(st.text(max_size=100))
def test_any_text_is_read_or_rejected(cursor: str) -> None:
    for read in (read_any_job_cursor, read_any_execution_cursor):
        with suppress(InvalidInputError):
            read(cursor)


@pytest.mark.parametrize(
    "letter", ["a", "\x01", "\ufdfa", "\u0390", "\U0001f4a3", "\U0010ffff", '"']
)
def test_a_cursor_with_the_longest_name_is_accepted(letter: str) -> None:
    name = JobCreate(name=letter * 200).name
    cursor = encode_cursor("name", [ID, name])
    assert decode_cursor("name", PageQuery(cursor=cursor).cursor or "") == [ID, name]


def test_a_longer_cursor_is_rejected_before_it_is_decoded() -> None:
    with pytest.raises(ValidationError, match="at most 2000"):
        PageQuery(cursor="A" * 2_001)
