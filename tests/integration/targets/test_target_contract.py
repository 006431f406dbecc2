"""The contract of every target. To test a new target, add a case."""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import bson
import pytest
from structlog.testing import capture_logs

from app.models.execution import AttemptOutcome
from app.models.target import HttpTargetSpec, LogTargetSpec, TargetSpec
from app.targets.log import LogTarget
from app.targets.registry import TargetRegistry
from tests.support.deliveries import DELIVERY, make_delivery
from tests.support.http_target import open_target
from tests.support.receiver import Receiver
from tests.support.waiting import run_other_tasks


@dataclass(frozen=True)
class TargetCase:
    """A target in the registry, a spec that selects it, and the deliveries that it received."""

    targets: TargetRegistry
    spec: TargetSpec
    received: Callable[[], list[dict[str, Any]]]


@asynccontextmanager
async def open_http_case() -> AsyncIterator[TargetCase]:
    async with Receiver() as receiver, open_target() as http:
        yield TargetCase(
            TargetRegistry(http=http, log=LogTarget()),
            HttpTargetSpec(url=f"{receiver.url}/hook"),
            lambda: [request.json() for request in receiver.requests],
        )


@asynccontextmanager
async def open_log_case() -> AsyncIterator[TargetCase]:
    async with open_target(private=False) as http:
        with capture_logs() as lines:
            yield TargetCase(
                TargetRegistry(http=http, log=LogTarget()),
                LogTargetSpec(),
                lambda: [dict(line) for line in lines if line["event"] == "log_target"],
            )


@pytest.fixture(params=[open_http_case, open_log_case], ids=["http", "log"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[TargetCase]:
    async with request.param() as case:
        yield case


async def test_a_delivery_arrives_once_with_all_its_identifying_fields(case: TargetCase) -> None:
    outcome = await case.targets.deliver(case.spec, DELIVERY)
    assert outcome.outcome is AttemptOutcome.SUCCEEDED
    (received,) = case.received()
    expected = {
        "execution_id": DELIVERY.execution_id,
        "job_id": DELIVERY.job_id,
        "job_name": "weekly-report",
        "kind": "scheduled",
        "scheduled_for": "2026-11-23T08:00:00Z",
        "attempt": 2,
        "parameters": {"action": "send_email", "to": ["Jörg", 7, None]},
    }
    # The log target adds its event name and level.
    assert {name: received.get(name) for name in expected} == expected


async def test_a_success_names_no_failure(case: TargetCase) -> None:
    outcome = await case.targets.deliver(case.spec, DELIVERY)
    assert (outcome.failure, outcome.error, outcome.retry_after, outcome.gone) == (
        None,
        None,
        None,
        False,
    )


async def test_the_response_can_be_stored(case: TargetCase) -> None:
    outcome = await case.targets.deliver(case.spec, DELIVERY)
    response = None if outcome.response is None else outcome.response.model_dump()
    assert bson.decode(bson.encode({"response": response})) == {"response": response}


async def test_a_delivery_changes_neither_the_spec_nor_the_delivery(case: TargetCase) -> None:
    spec, delivery = copy.deepcopy(case.spec), make_delivery(parameters={"a": {"b": [1]}})
    before = copy.deepcopy(asdict(delivery))
    await case.targets.deliver(case.spec, delivery)
    assert case.spec == spec
    assert asdict(delivery) == before


async def test_one_instance_serves_many_deliveries_at_once(case: TargetCase) -> None:
    deliveries = [make_delivery(execution_id=f"{number:032x}") for number in range(50)]
    outcomes = await asyncio.gather(*(case.targets.deliver(case.spec, d) for d in deliveries))
    assert {outcome.outcome for outcome in outcomes} == {AttemptOutcome.SUCCEEDED}
    assert sorted(received["execution_id"] for received in case.received()) == [
        delivery.execution_id for delivery in deliveries
    ]


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancelled_delivery_leaves_nothing_running(case: TargetCase, turns: int) -> None:
    before = asyncio.all_tasks()
    delivering = asyncio.ensure_future(case.targets.deliver(case.spec, DELIVERY))
    await run_other_tasks(turns)
    if delivering.cancel():
        with pytest.raises(asyncio.CancelledError):
            await delivering
    started = {task for task in asyncio.all_tasks() - before if _is_of_a_target(task)}
    if started:
        _, running = await asyncio.wait(started, timeout=2)
        assert not running


def _is_of_a_target(task: "asyncio.Task[Any]") -> bool:
    """Return whether a target started the task for this delivery.

    aiohttp's server tasks wait for requests, and one task checks the bytes of all attempts until
    their connections are closed, so these are excluded.
    """
    return "web_protocol" not in repr(task.get_coro()) and task.get_name() != "receive-limit"
