"""The values of a body are counted before it is parsed."""

import json
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInputError
from app.schemas import json_size
from app.schemas.json_size import MAX_VALUES, check_number_of_values
from tests.support.worst_bodies import count_values

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def is_accepted(body: bytes) -> bool:
    try:
        check_number_of_values(body)
    except InvalidInputError:
        return False
    return True


@given(JSON_VALUES, st.sampled_from([None, 2]), st.booleans())
def test_every_value_is_counted_once(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    body = text.encode(errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_size, "MAX_VALUES", count_values(value))
        assert is_accepted(body)
        patch.setattr(json_size, "MAX_VALUES", count_values(value) - 1)
        assert not is_accepted(body)


def list_bodies(values: int) -> list[bytes]:
    """Return bodies with this number of values."""
    return [
        b"[" + b",".join([item] * (values - 1)) + b"]"
        for item in (b"1", b'""', b"[]", b"{}", b"null", b'"\\""')
    ] + [
        b"[" * values + b"]" * values,
        b'{"":' * (values - 1) + b"0" + b"}" * (values - 1),
        b"{" + b",".join([b'"a" : 1'] * (values - 1)) + b"}",
    ]


def test_a_body_may_have_the_maximum_number_of_values_and_not_one_more() -> None:
    for body in list_bodies(MAX_VALUES):
        assert is_accepted(body), body[:20]
    for body in list_bodies(MAX_VALUES + 1):
        assert not is_accepted(body), body[:20]


def test_the_characters_in_a_text_are_not_counted() -> None:
    inside = '[{,:"\\' * MAX_VALUES
    assert is_accepted(json.dumps({"a": inside, inside: inside}).encode())


@pytest.mark.parametrize(
    "text",
    [
        *(b"%b" % part * 300_000 for part in (b"[", b"]", b",", b":", b" ", b'"', b"\\", b"1")),
        *(b"%b" % part * 100_000 for part in (b'"":', b'"a\\"', b'" ', b"[]", b"\\\\", b'\\"')),
        b'"' + b'\\"' * 100_000,
        b'"' + b"\\\\" * 100_000,
        b"[1" + b" " * 300_000,
        b"\xff" * 300_000,
        b"",
        b'"\\',
    ],
)
def test_a_text_that_is_not_json_is_read_in_one_pass(text: bytes) -> None:
    """Each token starts where the one before it has ended, and the number of tokens is limited."""
    tokens = list(islice(json_size._TOKEN.finditer(text), 2 * MAX_VALUES + 1))
    ends = [0, *(token.end() for token in tokens)]
    assert [token.start() for token in tokens] == ends[:-1]
    is_accepted(text)
