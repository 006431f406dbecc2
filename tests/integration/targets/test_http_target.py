"""The http target: the request that it sends, and the outcome of each response."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.models.execution import AttemptOutcome
from app.models.outcome import Failure, Outcome
from app.models.target import HttpMethod
from app.targets.http import HttpTarget
from tests.integration.targets.specs import make_spec
from tests.support.deliveries import DELIVERY, make_delivery
from tests.support.http_target import open_target
from tests.support.receiver import HOST, Receiver


def assert_status_failure(outcome: Outcome, error: str) -> None:
    assert (outcome.outcome, outcome.failure, outcome.error) == (
        AttemptOutcome.FAILED,
        Failure.STATUS,
        error,
    )


class TestRequest:
    async def test_a_post_contains_the_envelope_and_identifies_the_attempt(
        self, target: HttpTarget, receiver: Receiver
    ) -> None:
        outcome = await target.deliver(make_spec(receiver, "/hook?a=b"), DELIVERY)
        assert outcome.outcome is AttemptOutcome.SUCCEEDED
        (request,) = receiver.requests
        assert (request.method, request.path) == ("POST", "/hook?a=b")
        assert request.json() == {
            "job_id": DELIVERY.job_id,
            "job_name": "weekly-report",
            "execution_id": DELIVERY.execution_id,
            "kind": "scheduled",
            "scheduled_for": "2026-11-23T08:00:00Z",
            "attempt": 2,
            "parameters": {"action": "send_email", "to": ["Jörg", 7, None]},
        }
        sent = {name.lower(): value for name, value in request.headers.items()}
        assert sent == {
            "host": f"{HOST}:{receiver.port}",
            "user-agent": "Carillon/1.2.3",
            "content-type": "application/json",
            "content-length": str(len(request.body)),
            "accept": "*/*",
            "accept-encoding": "identity",
            "connection": "close",
            "idempotency-key": DELIVERY.execution_id,
            "x-job-id": DELIVERY.job_id,
            "x-scheduled-for": "2026-11-23T08:00:00Z",
            "x-attempt": "2",
            "x-carillon-hops": "1",
        }

    @pytest.mark.parametrize("method", HttpMethod)
    async def test_get_delete_and_head_have_no_body_by_default(
        self, target: HttpTarget, receiver: Receiver, method: HttpMethod
    ) -> None:
        outcome = await target.deliver(make_spec(receiver, method=method), DELIVERY)
        assert outcome.outcome is AttemptOutcome.SUCCEEDED
        (request,) = receiver.requests
        assert request.method == method
        bodiless = method in {"GET", "DELETE", "HEAD"}
        assert (request.body == b"") is bodiless
        assert ("Content-Type" not in request.headers) is bodiless

    @pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "HEAD"])
    @pytest.mark.parametrize(
        ("body", "sent", "content_type"),
        [
            ("plain äöü", "plain äöü".encode(), "text/plain; charset=utf-8"),
            ("", b"", "text/plain; charset=utf-8"),
            ({"a": [1, "ä"]}, '{"a":[1,"ä"]}'.encode(), "application/json"),
            ([], b"[]", "application/json"),
            (False, b"false", "application/json"),
            (0, b"0", "application/json"),
        ],
    )
    async def test_the_users_body_is_sent_with_every_method(
        self,
        target: HttpTarget,
        receiver: Receiver,
        method: str,
        body: Any,
        sent: bytes,
        content_type: str,
    ) -> None:
        await target.deliver(make_spec(receiver, method=HttpMethod(method), body=body), DELIVERY)
        (request,) = receiver.requests
        assert request.body == sent
        assert request.headers["Content-Type"] == content_type

    async def test_the_users_headers_replace_defaults_but_not_carillons_own_headers(
        self, target: HttpTarget, receiver: Receiver
    ) -> None:
        headers = {
            "content-type": "application/vnd.api+json",
            "user-agent": "mine",
            "Authorization": "Bearer t",
            "X-Text": "Grüße",
            "accept-encoding": "gzip",
            "x-attempt": "99",
            "x-carillon-hops": "0",
            "IDEMPOTENCY-KEY": "forged",
        }
        await target.deliver(make_spec(receiver, headers=headers), DELIVERY)
        (request,) = receiver.requests
        for name, value in {
            "Content-Type": "application/vnd.api+json",
            "User-Agent": "mine",
            "Authorization": "Bearer t",
            "X-Text": "Grüße",
            "Accept-Encoding": "identity",
            "X-Attempt": "2",
            "X-Carillon-Hops": "1",
            "Idempotency-Key": DELIVERY.execution_id,
        }.items():
            assert request.headers.getall(name) == [value]

    async def test_the_receiver_gets_one_hop_more_than_the_execution_has(
        self, target: HttpTarget, receiver: Receiver
    ) -> None:
        await target.deliver(make_spec(receiver), make_delivery(hops=1))
        assert receiver.requests[0].headers["X-Carillon-Hops"] == "2"

    async def test_milliseconds_of_the_slot_are_sent_if_there_are_any(
        self, target: HttpTarget, receiver: Receiver
    ) -> None:
        slot = datetime(2026, 11, 23, 8, 0, 0, 250_000, tzinfo=UTC)
        await target.deliver(make_spec(receiver), make_delivery(scheduled_for=slot))
        assert receiver.requests[0].headers["X-Scheduled-For"] == "2026-11-23T08:00:00.250Z"

    async def test_cookies_of_one_job_do_not_reach_another(
        self, target: HttpTarget, receiver: Receiver
    ) -> None:
        receiver.respond_with(headers={"Set-Cookie": "session=1; Path=/"})
        for _ in range(2):
            await target.deliver(make_spec(receiver), DELIVERY)
        assert "Cookie" not in receiver.requests[1].headers

    async def test_proxies_of_the_environment_are_ignored(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with Receiver() as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            async with open_target() as target:
                await target.deliver(make_spec(receiver), DELIVERY)
        assert (len(receiver.requests), len(proxy.requests)) == (1, 0)


class TestResponse:
    @pytest.mark.parametrize("status", [200, 201, 204, 299])
    async def test_2xx_is_success(
        self, target: HttpTarget, receiver: Receiver, status: int
    ) -> None:
        receiver.respond_with(status, headers={"X-Trace": "7"})
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
        assert (outcome.outcome, outcome.failure) == (AttemptOutcome.SUCCEEDED, None)
        assert outcome.response is not None
        assert outcome.response.status == status
        assert outcome.response.headers["x-trace"] == "7"

    @pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 422, 500, 502, 503, 599])
    async def test_any_other_status_is_a_failure_with_its_response(
        self, target: HttpTarget, receiver: Receiver, status: int
    ) -> None:
        receiver.respond_with(status, body="" if status == 304 else "why")
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
        assert (outcome.outcome, outcome.failure) == (AttemptOutcome.FAILED, Failure.STATUS)
        assert outcome.error is not None
        assert f"status {status}" in outcome.error
        assert outcome.response is not None
        assert (outcome.response.status, outcome.gone) == (status, False)

    async def test_success_statuses_replace_2xx(
        self, target: HttpTarget, receiver: Receiver
    ) -> None:
        spec = make_spec(receiver, success_statuses=(404, 410, 302))
        for status in (404, 410, 302):
            receiver.respond_with(status, headers={"Location": "/elsewhere"})
            outcome = await target.deliver(spec, DELIVERY)
            assert (outcome.outcome, outcome.gone) == (AttemptOutcome.SUCCEEDED, False)
        receiver.respond_with(200)
        assert_status_failure(
            await target.deliver(spec, DELIVERY), "the target responded with status 200"
        )

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_a_redirect_is_a_failure_and_is_not_followed(
        self, target: HttpTarget, receiver: Receiver, status: int, method: str
    ) -> None:
        receiver.respond_with(status, headers={"Location": f"{receiver.url}/loopback"})
        outcome = await target.deliver(make_spec(receiver, method=HttpMethod(method)), DELIVERY)
        error = f"the target responded with status {status}; redirects are not followed"
        assert_status_failure(outcome, error)
        assert len(receiver.requests) == 1

    async def test_status_410_means_that_the_receiver_is_gone(
        self, target: HttpTarget, receiver: Receiver
    ) -> None:
        receiver.respond_with(410)
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
        assert_status_failure(outcome, "the target responded with status 410")
        assert outcome.gone

    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize(
        ("value", "seconds"), [("7", 7), ("Mon, 23 Nov 2026 08:01:30 GMT", 90), ("soon", None)]
    )
    async def test_retry_after_of_429_and_503_is_part_of_the_outcome(
        self, target: HttpTarget, receiver: Receiver, status: int, value: str, seconds: int | None
    ) -> None:
        receiver.respond_with(status, headers={"Retry-After": value})
        outcome = await target.deliver(make_spec(receiver), DELIVERY)
        assert outcome.retry_after == (None if seconds is None else timedelta(seconds=seconds))

    @pytest.mark.parametrize("status", [200, 400, 500])
    async def test_retry_after_of_another_status_is_ignored(
        self, target: HttpTarget, receiver: Receiver, status: int
    ) -> None:
        receiver.respond_with(status, headers={"Retry-After": "7"})
        assert (await target.deliver(make_spec(receiver), DELIVERY)).retry_after is None
