"""docs/receivers.md says what receivers get, and what becomes of their responses."""

import asyncio
import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.models.execution import AttemptOutcome, ExecutionKind
from app.models.job import Job
from app.models.target import BODILESS_METHODS, HttpMethod, HttpTargetSpec
from app.schemas import target_rules
from app.targets import http_message, protocol, received_bytes
from app.targets.http import HttpTarget
from app.targets.target import Delivery
from tests.integration.targets.specs import make_spec
from tests.support.certificates import make_self_signed_context
from tests.support.clock import ManualClock
from tests.support.deliveries import DELIVERY, make_delivery
from tests.support.documents import find_blocks, find_names, read_rows
from tests.support.http_target import open_target
from tests.support.receiver import RawReceiver, Receiver
from tests.support.service import ROOT

PAGE = ROOT / "docs" / "receivers.md"
THIS_TEST = "tests/integration/targets/test_receivers_page.py"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def read_request() -> tuple[str, str]:
    """The head and the body of the request that the page shows."""
    (block,) = find_blocks(PAGE, THIS_TEST, "http")
    head, _, body = block.rstrip("\n").partition("\n\n")
    return head, body


def read_headers() -> dict[str, str]:
    lines = read_request()[0].splitlines()[1:]
    return dict(line.split(": ", 1) for line in lines)


def read_delivery() -> Delivery:
    """The delivery of the request that the page shows."""
    envelope = json.loads(read_request()[1])
    return replace(
        DELIVERY,
        **{name: envelope[name] for name in ("execution_id", "job_id", "job_name", "attempt")},
        kind=ExecutionKind(envelope["kind"]),
        scheduled_for=datetime.fromisoformat(envelope["scheduled_for"]),
        parameters=envelope["parameters"],
    )


async def record_bytes(target: HttpTarget, delivery: Delivery, **fields: Any) -> str:
    """Deliver to a receiver that records the bytes of the request."""
    bodies: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = re.search(rb"Content-Length: (\d+)", receiver.heads[-1])
        bodies.append(await reader.readexactly(int(found[1]) if found else 0))
        writer.write(OK)
        await writer.drain()

    async with RawReceiver(script) as receiver:
        spec = make_spec(receiver, "/greet?from=carillon", **fields)
        outcome = await target.deliver(spec, delivery)
        assert outcome.outcome is AttemptOutcome.SUCCEEDED
        request = (receiver.heads[0] + bodies[0]).decode()
    return re.sub(r"Carillon/\S+", "Carillon/0.1.0", request.replace(str(receiver.port), "9000"))


async def test_a_request_has_exactly_the_bytes_that_the_page_shows(target: HttpTarget) -> None:
    sent = await record_bytes(target, read_delivery(), headers={"X-Team": "ops"})
    head, body = read_request()
    assert sent == head.replace("\n", "\r\n") + "\r\n\r\n" + body


def test_the_page_explains_each_header_that_the_service_sends_with_its_example() -> None:
    rows = read_rows(PAGE, "header")
    explained = {row[0].strip("`"): row[1].strip("`") for row in rows}
    sent = read_headers()
    del sent["X-Team"]  # this one is the user's
    assert explained == sent
    assert all(row[2] for row in rows)


def test_the_page_names_each_header_that_users_cannot_set() -> None:
    named = {name.lower() for name in re.findall(r"`([A-Za-z-]+)`", PAGE.read_text())}
    prefixes = set(target_rules.RESERVED_PREFIXES)
    assert named >= target_rules.RESERVED_HEADERS | prefixes


def test_the_page_explains_each_kind_once() -> None:
    assert [find_names(row[0]) for row in read_rows(PAGE, "`kind`")] == [
        [kind] for kind in ExecutionKind
    ]


async def test_the_body_is_the_one_that_the_page_names(target: HttpTarget) -> None:
    rows = read_rows(PAGE, "`body` of the target")
    cases = [
        (None, [method for method in HttpMethod if method not in BODILESS_METHODS]),
        (None, BODILESS_METHODS),
        ("good morning", list(HttpMethod)),
        (["good morning"], list(HttpMethod)),
    ]
    for (first, _, content_type), (body, methods) in zip(rows, cases, strict=True):
        assert body is not None or set(re.findall(r"[A-Z]{3,}", first)) == set(methods)
        for method in methods:
            sent = await record_bytes(target, DELIVERY, method=method, body=body)
            found = re.search(r"Content-Type: (.*)\r", sent)
            assert (found[1] if found else "none") == content_type.strip(" `"), sent


@pytest.mark.parametrize("status", [204, 302, 404, 410, 429, 500, 503])
async def test_a_status_has_the_outcome_of_its_row(
    target: HttpTarget, receiver: Receiver, status: int
) -> None:
    rows = {row[0].split()[0].rstrip(",:"): row for row in read_rows(PAGE, "response")}
    name = {204: "a", 302: "300", 410: "410", 429: "429", 503: "429"}.get(status, "any")
    receiver.respond_with(status, headers={"Retry-After": "7", "Location": "/"})
    outcome = await target.deliver(make_spec(receiver), DELIVERY)
    _, expected, another = rows[name]
    assert outcome.outcome == expected.strip("`")
    assert outcome.gone == ("paused" in another)
    assert (outcome.retry_after is not None) == ("Retry-After" in another)
    accepting = await target.deliver(make_spec(receiver, success_statuses=(status,)), DELIVERY)
    assert accepting.outcome is AttemptOutcome.SUCCEEDED
    assert not accepting.gone
    assert len(receiver.requests) == 2


async def test_an_attempt_has_the_error_that_the_page_shows(tmp_path: Path) -> None:
    shown = [row[0].strip("`") for row in read_rows(PAGE, "`error`")]
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"
    clock = ManualClock()
    found = []
    async with (
        open_target(clock=clock) as target,
        Receiver() as receiver,
        Receiver() as closed,
        Receiver(tls=make_self_signed_context(tmp_path)) as untrusted,
        RawReceiver.send_and_close(short) as breaking,
        RawReceiver.send_and_close(b"220 mail\r\n\r\n") as not_http,
    ):
        for status in (500, 302):
            receiver.respond_with(status)
            found.append(await target.deliver(make_spec(receiver), DELIVERY))
        receiver.never_respond()
        delivery = make_delivery(
            timeout=timedelta(seconds=Job.model_fields["timeout_seconds"].default)
        )
        delivering = asyncio.ensure_future(target.deliver(make_spec(receiver), delivery))
        await receiver.wait_for_requests(3)
        clock.advance(delivery.timeout)
        found.append(await delivering)
        await closed.__aexit__(None, None, None)
        found.append(await target.deliver(make_spec(closed), DELIVERY))
        async with open_target(private=False) as guarded:
            found.append(await guarded.deliver(make_spec(receiver), DELIVERY))
        for other in (untrusted, breaking, not_http):
            found.append(await target.deliver(make_spec(other), DELIVERY))
        found.append(await target.deliver(HttpTargetSpec(url="nonsense"), DELIVERY))
    assert [outcome.error for outcome in found] == shown


def test_the_limits_are_those_of_the_code() -> None:
    text = PAGE.read_text()
    for error in (
        protocol.TOO_MUCH_BEFORE_THE_HEAD,
        protocol.TOO_MUCH_FRAMING,
        received_bytes.TOO_MANY_BYTES,
    ):
        assert f": `{error}` |" in text
    kilobyte = 1_024
    for limit in (
        f"| {http_message.MAX_BODY_BYTES // kilobyte} KB are stored |",
        f"| {http_message.MAX_STORED_HEADERS}, {http_message.MAX_STORED_HEADER_VALUE_LENGTH:,}"
        f" characters of each value, {http_message.MAX_STORED_HEADERS_BYTES // kilobyte} KB in all",
        f"| {protocol.MAX_HEAD_BYTES // kilobyte} KB, {protocol.MAX_INTERIM_RESPONSES} interim",
        f"trailers | {protocol.MAX_FRAMING_BYTES // kilobyte} KB |",
        f"TLS | {received_bytes.MAX_RECEIVED_BYTES // kilobyte} KB |",
        f"at most {target_rules.MAX_SENT_HEADERS}, with at most"
        f" {target_rules.MAX_SENT_HEADER_VALUE_LENGTH:,} characters in a value and"
        f" {target_rules.MAX_SENT_HEADERS_BYTES:,} bytes in all",
    ):
        assert limit in text


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ([b"X-%d: a" % number for number in range(127)], True),
        ([b"X-%d: a" % number for number in range(129)], False),
        ([b"X-Long: " + b"a" * 8_180], True),
        ([b"X-Long: " + b"a" * 8_200], False),
    ],
)
async def test_a_response_has_at_most_128_headers_and_8190_bytes_in_a_line(
    target: HttpTarget, headers: list[bytes], accepted: bool
) -> None:
    assert "| 128, with 8,190 bytes in a line | the attempt fails |" in PAGE.read_text()
    head = b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: 0", *headers])
    async with RawReceiver.send_and_close(head + b"\r\n\r\n") as receiver:
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
    assert (outcome.outcome is AttemptOutcome.SUCCEEDED) is accepted


async def test_users_may_replace_the_headers_that_the_page_names(target: HttpTarget) -> None:
    (sentence,) = re.findall(r"They may replace (.*?), but", PAGE.read_text())
    replaceable = re.findall(r"`([\w-]+)`", sentence)
    sent = await record_bytes(target, DELIVERY, headers=dict.fromkeys(replaceable, "mine"))
    for name in set(read_headers()) - {"X-Team"}:
        assert (f"\r\n{name}: mine\r\n" in sent) is (name in replaceable)
        assert sent.count(f"\r\n{name}: ") == 1
        assert (name.lower() in target_rules.RESERVED_HEADERS) is (name not in replaceable)


async def test_no_cookie_is_kept(target: HttpTarget, receiver: Receiver) -> None:
    receiver.respond_with(200, headers={"Set-Cookie": "session=1"})
    for _ in range(2):
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
        assert outcome.response is not None
        assert "set-cookie" not in outcome.response.headers
    assert ["Cookie" in request.headers for request in receiver.requests] == [False, False]
