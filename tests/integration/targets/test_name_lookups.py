"""Deliveries to names: against a DNS server on 127.0.0.1 that is slow, silent or hostile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
import uvloop

from app.clock import SystemClock
from app.errors import ConfigurationError
from app.models.execution import AttemptOutcome
from app.models.outcome import Failure, Outcome
from app.models.target import HttpTargetSpec
from app.targets import resolver as module
from app.targets.http import HttpTarget
from app.targets.resolver import LOOKUP_LIMIT, MAX_ADDRESSES, AresResolver, UnansweredError
from tests.support.clock import ManualClock
from tests.support.deliveries import DELIVERY, make_delivery
from tests.support.dns_server import AAAA, A, DnsServer
from tests.support.http_target import assert_fails, open_target
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

BOB = "0192f3a4b5c67d8e9f00000000000002"
PATIENT = make_delivery(timeout=timedelta(seconds=60))


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    async with DnsServer() as dns:
        yield dns


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def target(dns: DnsServer, clock: ManualClock) -> AsyncIterator[HttpTarget]:
    async with open_target(resolver=AresResolver(dns.address), clock=clock) as target:
        yield target


def make_spec(receiver: Receiver, name: str) -> HttpTargetSpec:
    return HttpTargetSpec(url=f"http://{name}:{receiver.port}/")


def assert_not_connected(outcome: Outcome) -> None:
    assert_fails(outcome, Failure.CONNECTION_ERROR, "could not connect")


async def test_a_name_is_found_by_dns(
    target: HttpTarget, receiver: Receiver, dns: DnsServer
) -> None:
    outcome = await target.deliver(make_spec(receiver, "some.test"), DELIVERY)
    assert outcome.outcome is AttemptOutcome.SUCCEEDED
    assert receiver.requests[0].headers["Host"] == f"some.test:{receiver.port}"
    assert dns.queries["some.test"] > 0


async def test_names_of_the_hosts_file_are_found_without_dns(
    target: HttpTarget, receiver: Receiver, dns: DnsServer
) -> None:
    outcome = await target.deliver(make_spec(receiver, "localhost"), DELIVERY)
    assert outcome.outcome is AttemptOutcome.SUCCEEDED
    assert dns.queries.total() == 0


async def test_an_unknown_and_a_silent_name_have_the_same_outcome(
    dns: DnsServer, receiver: Receiver, clock: ManualClock
) -> None:
    dns.unknown.add("unknown.test")
    dns.silent.add("silent.test")
    resolver = AresResolver(dns.address)
    async with open_target(resolver=resolver, clock=clock, private=False) as target:
        unknown = await target.deliver(make_spec(receiver, "unknown.test"), PATIENT)
        delivering = asyncio.ensure_future(
            target.deliver(make_spec(receiver, "silent.test"), PATIENT)
        )
        await eventually(lambda: dns.queries["silent.test"] > 0)
        clock.advance(LOOKUP_LIMIT)
        silent = await delivering
        queries = dns.queries.total()
        remembered = await target.deliver(make_spec(receiver, "silent.test"), PATIENT)
        assert dns.queries.total() == queries
    assert_not_connected(unknown)
    assert unknown == silent == remembered


async def test_fifty_silent_names_of_an_owner_do_not_delay_another_owner(
    target: HttpTarget, receiver: Receiver, dns: DnsServer
) -> None:
    names = [f"{number}.silent.test" for number in range(50)]
    dns.silent.update(names)
    slow = [
        asyncio.ensure_future(target.deliver(make_spec(receiver, name), PATIENT)) for name in names
    ]
    await eventually(lambda: sum(dns.queries[name] > 0 for name in names) == 4)
    outcome = await target.deliver(make_spec(receiver, "good.test"), make_delivery(owner_id=BOB))
    assert outcome.outcome is AttemptOutcome.SUCCEEDED
    assert not any(delivering.done() for delivering in slow)
    assert sum(dns.queries[name] > 0 for name in names) == 4
    for delivering in slow:
        delivering.cancel()
    await asyncio.wait(slow)


async def test_an_owner_whose_names_are_silent_does_not_delay_the_same_name_of_another_owner(
    target: HttpTarget, receiver: Receiver, dns: DnsServer
) -> None:
    names = [f"{number}.silent.test" for number in range(4)]
    dns.silent.update(names)
    slow = [
        asyncio.ensure_future(target.deliver(make_spec(receiver, name), PATIENT))
        for name in (*names, "shared.test")
    ]
    await eventually(lambda: sum(dns.queries[name] > 0 for name in names) == 4)
    delivery = make_delivery(owner_id=BOB)
    outcome = await target.deliver(make_spec(receiver, "shared.test"), delivery)
    assert outcome.outcome is AttemptOutcome.SUCCEEDED
    assert not any(delivering.done() for delivering in slow)
    for delivering in slow:
        delivering.cancel()
    await asyncio.wait(slow)


async def test_a_silent_aaaa_does_not_hide_the_ipv4_address(
    target: HttpTarget, receiver: Receiver, dns: DnsServer
) -> None:
    dns.silent.add(("half.test", AAAA))
    outcome = await target.deliver(make_spec(receiver, "half.test"), PATIENT)
    assert outcome.outcome is AttemptOutcome.SUCCEEDED


async def test_an_answer_after_the_limit_changes_nothing(
    target: HttpTarget, receiver: Receiver, dns: DnsServer, clock: ManualClock
) -> None:
    dns.silent.add("late.test")
    spec = make_spec(receiver, "late.test")
    delivering = asyncio.ensure_future(target.deliver(spec, PATIENT))
    await eventually(lambda: len(dns.held) == 2)
    clock.advance(LOOKUP_LIMIT)
    assert_not_connected(await delivering)
    dns.silent.clear()
    dns.answer_held()
    clock.advance(module.UNANSWERED_FOR)
    outcome = await target.deliver(spec, PATIENT)
    assert outcome.outcome is AttemptOutcome.SUCCEEDED
    assert len(receiver.requests) == 1


@pytest.mark.slow
async def test_a_silent_server_is_given_up_and_a_name_that_needs_several_tries_is_found(
    dns: DnsServer,
) -> None:
    """A server that usually answers quickly gets 0.25 s for the first try of a name."""
    resolver = AresResolver(dns.address)
    for number in range(10):
        await resolver.resolve(f"{number}.test")
    dns.silent |= {"silent.test", "second.test"}
    lookup = asyncio.ensure_future(resolver.resolve("second.test"))
    await eventually(lambda: dns.queries["second.test"] > 2)
    dns.silent.remove("second.test")
    dns.answer_held()
    assert [found["host"] for found in await lookup] == ["127.0.0.1"]
    with pytest.raises(UnansweredError):
        await resolver.resolve("silent.test")
    await resolver.close()


async def test_the_memory_of_answers_is_bounded(
    dns: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOKUPS_PER_CHANNEL", 10)
    resolver = AresResolver(dns.address)
    first = resolver._channel
    dns.silent.add("slow.test")
    slow = asyncio.ensure_future(resolver.resolve("slow.test"))
    await eventually(lambda: len(dns.held) == 2)
    for number in range(100):
        assert await resolver.resolve(f"{number}.test")
    assert resolver._channel is not first
    dns.answer_held()  # a lookup of a replaced channel still ends
    assert await slow
    await resolver.close()


async def test_a_huge_answer_is_truncated_and_not_kept(dns: DnsServer) -> None:
    """The whole answers, which only TCP can carry, have 64 KB each."""
    dns.counts = {("huge.test", A): 4_000, ("huge.test", AAAA): 2_300}
    resolver = AresResolver(dns.address)
    for lookups in (1, 2):
        assert len(await resolver.resolve("huge.test")) == MAX_ADDRESSES == 16
        assert dns.queries["huge.test"] == 2 * lookups  # A and AAAA
    assert dns.tcp_queries.total() == 0
    await resolver.close()


async def test_an_answer_with_more_than_512_bytes_is_complete(dns: DnsServer) -> None:
    """A server may send nothing of an answer that it must truncate."""
    dns.counts["large.test", A] = 70
    resolver = AresResolver(dns.address)
    assert len(await resolver.resolve("large.test")) == MAX_ADDRESSES
    assert dns.truncated["large.test"] == 0
    await resolver.close()


@pytest.mark.parametrize("servers", ["1.2.3.999", "127.0.0.1:65536"])
async def test_servers_that_are_not_addresses_are_a_configuration_error(servers: str) -> None:
    with pytest.raises(ConfigurationError, match="DNS_SERVERS"):
        AresResolver(servers)


async def test_a_name_that_no_host_can_have_is_a_value_error(dns: DnsServer) -> None:
    resolver = AresResolver(dns.address)
    for name in ("a" * 64 + ".test", "a..test"):
        with pytest.raises(ValueError, match="no host"):
            await resolver.resolve(name)
    await resolver.close()
    assert dns.queries.total() == 0


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_names_are_found_with_each_event_loop(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    async def look_up() -> None:
        async with DnsServer() as dns, Receiver() as receiver:
            resolver = AresResolver(dns.address)
            async with open_target(resolver=resolver, clock=SystemClock()) as target:
                outcomes = await asyncio.gather(
                    *(
                        target.deliver(make_spec(receiver, name), DELIVERY)
                        for name in ("localhost", "some.test")
                    )
                )
        assert {one.outcome for one in outcomes} == {AttemptOutcome.SUCCEEDED}

    run(look_up())
