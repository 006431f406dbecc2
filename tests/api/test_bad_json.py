"""A body that is not JSON is explained in words of our own, with the line and the column."""

import httpx2
import pytest

from tests.support.api import assert_problem

NAME_EXPECTED = "a name in double quotes is expected"
COMMA_EXPECTED = "a comma or the end of the list or object is expected"
QUOTES = "names and texts need straight double quotes"
ENDS_EARLY = "the body ends too early"


@pytest.mark.parametrize(
    ("body", "line", "column", "text"),
    [
        ('{"name": "x",}', 1, 14, "remove the comma before the closing bracket or brace"),
        ('{"tags": ["x" , ]}', 1, 17, "remove the comma before"),
        ("{'name': 'x'}", 1, 2, QUOTES),
        ("{\u201cname\u201d: 1}", 1, 2, QUOTES),
        ('{\n  "name": "x"\n  "active": true\n}', 3, 3, COMMA_EXPECTED),
        ('{\r\n  "name": 01}', 2, 12, COMMA_EXPECTED),
        ("{name: 1}", 1, 2, NAME_EXPECTED),
        ('{"name" "x"}', 1, 9, "a colon is expected after the name"),
        ('{"name": }', 1, 10, "a value is expected"),
        ('{"name": "x"', 1, 13, ENDS_EARLY),
        ('{"name": ', 1, 10, ENDS_EARLY),
        ("{", 1, 2, ENDS_EARLY),
        ('{"active": True}', 1, 12, "write true, false and null in small letters"),
        ("{// a\n}", 1, 2, "JSON has no comments"),
        ('{"name": "x"} y', 1, 15, "the JSON has ended"),
        ('{"name": "x\n"}', 1, 12, "a text must not contain line breaks"),
        ('{"name": "x', 1, 10, "the text that starts here has no closing double quote"),
        ('{"name": "\\x"}', 1, 11, "after a backslash"),
        ('{"name": "\\u12"}', 1, 12, "\\u needs four hexadecimal digits"),
        ("\ufeff{}", 1, 1, "send UTF-8 without a byte order mark"),
        ("name=x", 1, 1, "a value is expected"),
    ],
)
async def test_bad_json_is_explained_with_its_place(
    alice: httpx2.AsyncClient, body: str, line: int, column: int, text: str
) -> None:
    headers = {"Content-Type": "application/json"}
    response = await alice.post("/jobs", content=body.encode(), headers=headers)
    (error,) = assert_problem(response, 422)["errors"]
    assert error["pointer"] == ""
    place = f"the body is not valid JSON: line {line}, column {column}: "
    assert error["detail"].startswith(place + text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            b'{"a": 1, "a": 2}',
            'line 1, column 10: the object has the name "a" twice; remove one of them',
        ),
        (
            b'{"x": [{"b": "{"}, {"b": 1}],\n "c": {"x": "\\"", "\\u0078" : 1}}',
            'line 2, column 19: the object has the name "x" twice; remove one of them',
        ),
        (
            b'{"%b": 1, "%b": 2}' % (b"n" * 50, b"n" * 50),
            f'line 1, column 59: the object has the name "{"n" * 40}" twice; remove one of them',
        ),
        (b'{"a": NaN}', "line 1, column 7: NaN is not JSON; send a number or null"),
        (
            b'{"NaN": "NaN",\n "a": [1, -Infinity]}',
            "line 2, column 11: -Infinity is not JSON; send a number or null",
        ),
        (b'{"a": "\xff"}', "it is not UTF-8 at byte 8; send it in UTF-8"),
    ],
)
async def test_json_that_parsers_read_differently_is_explained(
    alice: httpx2.AsyncClient, body: bytes, text: str
) -> None:
    headers = {"Content-Type": "application/json"}
    response = await alice.post("/jobs", content=body, headers=headers)
    (error,) = assert_problem(response, 422)["errors"]
    assert error["detail"] == f"the body is not valid JSON: {text}"
