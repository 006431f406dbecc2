"""The http target's connections: whether one is made, to which address, and how it ends."""

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import ThreadedResolver
from structlog.testing import capture_logs

from app.models.execution import AttemptOutcome
from app.models.outcome import Failure
from app.models.target import HttpTargetSpec
from app.targets.http import HttpTarget
from tests.integration.targets.specs import make_spec
from tests.support.certificates import make_self_signed_context
from tests.support.deliveries import DELIVERY
from tests.support.http_target import assert_fails, deliver_to
from tests.support.loopback import keep_on_this_machine
from tests.support.receiver import HOST, Receiver
from tests.support.resolvers import FailingResolver, ListResolver

DENIED = (
    "could not connect: this service does not call the address of this host"
    " (HTTP_ALLOW_PRIVATE_HOSTS, HTTP_DENY_NETWORKS)"
)


@pytest.fixture(autouse=True)
def _stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_on_this_machine(monkeypatch)


async def test_refused_and_unknown_addresses_have_the_same_outcome_and_blocked_ones_another() -> (
    None
):
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    resolver = ThreadedResolver()
    refused = await deliver_to(f"http://{HOST}:{port}/", DELIVERY, resolver)
    blocked = await deliver_to(f"http://{HOST}:{port}/", DELIVERY, resolver, private=False)
    metadata = await deliver_to("http://169.254.169.254/latest/meta-data/", DELIVERY, resolver)
    unknown = await deliver_to(
        "http://unknown.test/",
        DELIVERY,
        FailingResolver(socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
    )
    assert_fails(refused, Failure.CONNECTION_ERROR, "could not connect")
    assert refused == unknown
    assert_fails(blocked, Failure.CONNECTION_ERROR, DENIED)
    assert blocked == metadata


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest/", "http://several.test:8080/"])
async def test_a_denied_address_is_logged_with_the_job_and_its_owner(url: str) -> None:
    resolver = ListResolver(["10.0.0.1", "fd00::1", "64:ff9b:2::1"])
    with capture_logs() as lines:
        await deliver_to(url, DELIVERY, resolver, private=False)
    denied = [line for line in lines if line["event"] == "egress_denied"]
    assert denied
    for line in denied:
        assert (line["job_id"], line["owner_id"]) == (DELIVERY.job_id, DELIVERY.owner_id)


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["fd00::1", "127.0.0.1", "169.254.169.254"]])
async def test_a_name_of_denied_addresses_says_so_without_an_address(addresses: list[str]) -> None:
    resolver = ListResolver(addresses)
    outcome = await deliver_to("http://several.test:8080/", DELIVERY, resolver, private=False)
    assert_fails(outcome, Failure.CONNECTION_ERROR, DENIED)


async def test_an_https_url_of_a_plain_http_server_is_a_tls_failure(
    target: HttpTarget, receiver: Receiver
) -> None:
    spec = HttpTargetSpec(url=f"https://{HOST}:{receiver.port}/")
    outcome = await target.deliver(spec, DELIVERY)
    assert_fails(outcome, Failure.CONNECTION_ERROR, "the TLS handshake failed")


async def test_a_self_signed_certificate_is_a_tls_failure(
    target: HttpTarget, tmp_path: Path
) -> None:
    async with Receiver(tls=make_self_signed_context(tmp_path)) as receiver:
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
        assert receiver.requests == []
    assert_fails(outcome, Failure.CONNECTION_ERROR, "the TLS handshake failed")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "/path",
        "http://",
        "http://[::1",
        "ftp://127.0.0.1:8080/",
        "file:///etc/passwd",
        "http://2130706433:8080/",
        "http://127.0.0.1:99999/",
        "http://" + "a" * 64 + ".test/",
        "http://a..test/",
    ],
)
async def test_an_unusable_url_is_refused(target: HttpTarget, url: str) -> None:
    outcome = await target.deliver(HttpTargetSpec(url=url), DELIVERY)
    assert (outcome.outcome, outcome.failure) == (AttemptOutcome.FAILED, Failure.REFUSED)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b"])
async def test_a_header_that_cannot_be_sent_is_refused(
    target: HttpTarget, receiver: Receiver, value: str
) -> None:
    outcome = await target.deliver(make_spec(receiver, headers={"X-A": value}), DELIVERY)
    assert_fails(outcome, Failure.REFUSED, "the request cannot be sent as it is defined")
    assert receiver.requests == []


async def test_a_cancelled_delivery_closes_its_connection(
    target: HttpTarget, receiver: Receiver
) -> None:
    receiver.never_respond()
    delivering = asyncio.ensure_future(target.deliver(make_spec(receiver), DELIVERY))
    await receiver.wait_for_requests(1)
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    await receiver.wait_for_interrupted_requests(1)
