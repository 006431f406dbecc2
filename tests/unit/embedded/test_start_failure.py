"""The report on a server that did not start."""

import signal

import pytest

from app.embedded.start_failure import advise, select_lines


def test_only_errors_and_unstructured_lines_of_mongod_are_selected() -> None:
    output = b'{"s":"I","msg":"begin"}\n\n{"s":"E","msg":"bad"}\nplain\n{"s":"F","msg":"end"}\n'
    assert select_lines(output) == '  {"s":"E","msg":"bad"}\n  plain\n  {"s":"F","msg":"end"}'


def test_without_errors_the_last_lines_are_selected() -> None:
    output = b"\n".join(b'{"s":"I","n":%d}' % number for number in range(20))
    lines = select_lines(output).splitlines()
    assert len(lines) == 8
    assert lines[-1] == '  {"s":"I","n":19}'


def test_long_lines_are_shortened_and_invalid_utf8_is_replaced() -> None:
    assert select_lines(b"\xff" + b"x" * 1_000) == "  \ufffd" + "x" * 399


@pytest.mark.parametrize(
    ("lines", "exit_status", "advice"),
    [
        ("libcurl.so.4: cannot open shared object file", 127, "libcurl4"),
        ("libcrypto.so.3: cannot open shared object file", 127, "OpenSSL 3"),
        ("libssl.so.3: cannot open shared object file", 127, "OpenSSL 3"),
        ("", -signal.SIGILL, "AVX"),
    ],
)
def test_a_known_cause_has_advice(lines: str, exit_status: int, advice: str) -> None:
    assert advice in advise(lines, exit_status)


def test_an_unknown_cause_has_no_advice() -> None:
    assert advise("exception in initAndListen", 100) == ""
