"""The rules on the URL and the headers of an http target."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInputError
from app.schemas.target_rules import (
    MAX_SENT_HEADER_VALUE_LENGTH,
    MAX_SENT_HEADERS,
    MAX_URL_LENGTH,
    check_headers,
    check_url,
)

GOOD_URLS = [
    "http://example.com",
    "https://example.com/",
    "HTTPS://EXAMPLE.COM/Path",
    "http://example.com.:8080/a?b=c#d",
    "http://example.com:80/",
    "http://example.com:443/",
    "http://example.com:1024/",
    "http://example.com:65535/",
    "http://example.com:/",
    "http://localhost:8000/hook",
    "http://my_service:8000/hook",
    "http://192.0.2.1/",
    "http://[2001:db8::1]:8080/",
    "https://xn--bcher-kva.example/",
    "https://bücher.example/straße?q=ä",
    "http://example.com/a%20b%0d%0a?x=%00",
    "http://example.com/@user",
    "http://example.com/?next=http://a@b",
    "http://example.com/" + "a" * (MAX_URL_LENGTH - len("http://example.com/")),
]

BAD_URLS = [
    ("", "must begin with"),
    ("example.com", "must begin with"),
    ("//example.com/", "must begin with"),
    ("ftp://example.com/", "must begin with"),
    ("file:///etc/passwd", "must begin with"),
    ("ws://example.com/", "must begin with"),
    ("javascript:alert(1)", "must begin with"),
    ("http:/example.com", "must name a host"),
    ("http:example.com", "must name a host"),
    ("http://", "must name a host"),
    ("http:///path", "must name a host"),
    ("http://?q", "must name a host"),
    ("http://user@example.com/", "user name or password"),
    ("http://user:password@example.com/", "user name or password"),
    ("http://@example.com/", "user name or password"),
    ("http://:@example.com/", "user name or password"),
    ("http://example.com@127.0.0.1/", "user name or password"),
    ("http://example.com:0/", "port"),
    ("http://example.com:22/", "port"),
    ("http://example.com:1023/", "port"),
    ("http://example.com:65536/", "is not valid"),
    ("http://example.com:-1/", "is not valid"),
    ("http://example.com:http/", "is not valid"),
    ("http://example.com:80:80/", "is not valid"),
    ("http://[::1", "is not valid"),
    ("http://[127.0.0.1]/", "is not valid"),
    ("http://[v1.a]/", "brackets"),
    ("http://[fe80::1%25eth0]/", "brackets"),
    ("http://[fe80::1%eth0]/", "brackets"),
    ("http://exa mple.com/", "spaces"),
    ("http://example.com/a b", "spaces"),
    (" http://example.com/", "spaces"),
    ("http://example.com/\n", "spaces"),
    ("http://example.com/\r\nHost: evil", "spaces"),
    ("http://example.com/\x00", "spaces"),
    ("http://example.com/\x7f", "spaces"),
    ("http://example.com/\u2028", "spaces"),
    ("http://example.com/\u200b", "spaces"),
    ("http://example.com/\ud800", "spaces"),
    ("http://example.com\\@127.0.0.1/", "backslashes"),
    ("http://a..b/", "host name"),
    ("http://.example.com/", "host name"),
    ("http://example.com../", "host name"),
    ("http://-example.com/", "host name"),
    ("http://a%2eb/", "host name"),
    ("http://a;b/", "host name"),
    ("http://a*b/", "host name"),
    ("http://" + "a" * 64 + ".com/", "host name"),
    ("http://" + "a." * 127 + "com/", "host name"),
    ("http://2130706433/", "four decimal numbers"),
    ("http://127.1/", "four decimal numbers"),
    ("http://0x7f000001/", "four decimal numbers"),
    ("http://0x7f.0.0.1/", "four decimal numbers"),
    ("http://127.0.0.0x1/", "four decimal numbers"),
    ("http://0177.0.0.1/", "four decimal numbers"),
    ("http://127.0.0.1./", "four decimal numbers"),
    ("http://256.0.0.1/", "four decimal numbers"),
    ("http://1.2.3.4.5/", "four decimal numbers"),
    ("http://example.com/" + "a" * MAX_URL_LENGTH, "characters"),
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_valid_url_is_accepted(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(("url", "reason"), BAD_URLS, ids=range(len(BAD_URLS)))
def test_an_invalid_url_is_rejected_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason) as rejected:
        check_url(url)
    assert rejected.value.errors == ()


@given(st.text(max_size=60))
def test_any_text_is_accepted_or_rejected(rest: str) -> None:
    for url in (rest, f"http://{rest}", f"http://example.com{rest}"):
        with contextlib.suppress(InvalidInputError):
            check_url(url)


def test_the_error_does_not_contain_the_password() -> None:
    with pytest.raises(InvalidInputError) as rejected:
        check_url("http://user:hunter2@example.com/")
    assert "hunter2" not in str(rejected.value)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer abc", "content-type": "text/csv", "User-Agent": "me"},
        {"X-Empty": "", "X-Space": "a b", "X-Text": "Grüße, 世界", "!#$%&'*+-.^_`|~": "odd"},
        {"Cookie": "a=b", "Accept": "*/*", "Hostname": "not Host", "X-Attempts": "1"},
        {f"X-{number}": "" for number in range(MAX_SENT_HEADERS)},
        {"X-Long": "a" * MAX_SENT_HEADER_VALUE_LENGTH},
    ],
    ids=range(6),
)
def test_valid_headers_are_accepted(headers: dict[str, str]) -> None:
    check_headers(headers)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "proxy-anything",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "webhook-id",
        "webhook-signature",
        "Webhook-Timestamp",
        "Webhook-Anything",
        "Idempotency-Key",
        "X-Job-Id",
        "X-Scheduled-For",
        "X-Attempt",
        "x-attempt",
        "X-Carillon-Hops",
        "Accept-Encoding",
    ],
)
def test_a_header_that_the_service_sets_is_rejected_by_name(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{name.lower()} is set by the service"):
        check_headers({name: "1"})


@pytest.mark.parametrize(
    "name",
    ["", " ", "X A", "X:", "X\r\nY", "X\n", "X\x00", "X-Ä", "(x)", "X/Y", "X@", "\ud800", "X\t"],
)
def test_a_header_name_with_invalid_characters_is_rejected(name: str) -> None:
    with pytest.raises(InvalidInputError, match="a header name consists of"):
        check_headers({name: "1"})


@pytest.mark.parametrize(
    "value", ["\r", "\n", "a\r\nX-Evil: 1", "\x00", "\t", "\x1b", "\x7f", "\x85", "\ud800"]
)
def test_a_header_value_with_a_control_character_is_rejected_but_not_repeated(value: str) -> None:
    with pytest.raises(InvalidInputError, match="X-Secret must not contain") as rejected:
        check_headers({"X-Secret": f"hunter2{value}"})
    assert "hunter2" not in str(rejected.value)


def test_the_same_header_in_another_case_is_rejected() -> None:
    with pytest.raises(InvalidInputError, match="same name"):
        check_headers({"X-A": "1", "x-a": "2"})


@pytest.mark.parametrize(
    "headers",
    [
        {f"X-{number}": "" for number in range(MAX_SENT_HEADERS + 1)},
        {"X-Long": "a" * (MAX_SENT_HEADER_VALUE_LENGTH + 1)},
        {f"X-{number}": "a" * 4_000 for number in range(3)},
        {"X-Wide": "世" * 3_000},
        {"X" * 9_000: ""},
    ],
    ids=["count", "value", "total", "bytes", "name"],
)
def test_headers_over_a_limit_are_rejected(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match="at most"):
        check_headers(headers)


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3))
def test_any_headers_are_accepted_or_rejected(headers: dict[str, str]) -> None:
    with contextlib.suppress(InvalidInputError):
        check_headers(headers)
