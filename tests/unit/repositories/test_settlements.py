"""A settlement contains only legal moves and the fence of the lease."""

from dataclasses import replace
from datetime import timedelta
from unittest.mock import AsyncMock, MagicMock

import bson
import pytest
from pymongo.read_concern import ReadConcern

from app.models.execution import MOVES, AttemptOutcome, ExecutionStatus, TargetResponse, Truncation
from app.models.outcome import Failure, Outcome
from app.repositories import heartbeat, lease_fence, leases
from app.repositories.lease_fence import AttemptsSeen, Lease
from app.repositories.leases import AttemptStart
from app.repositories.settlements import Settlement, settlement_stages
from tests.support.clock import ManualClock
from tests.support.variants import no_fence

TRUNCATED = TargetResponse(status=201, truncated=True, truncated_reason=Truncation.TOO_LARGE)
LEASE = Lease("an execution", 3)
TERM = timedelta(seconds=1)
_STAGES_BYTES = 7_000  # the parts of the update that do not depend on the settlements


@pytest.mark.parametrize("status", ExecutionStatus)
def test_a_settlement_accepts_only_legal_moves_from_running(status: ExecutionStatus) -> None:
    if status in MOVES[ExecutionStatus.RUNNING]:
        assert Settlement(LEASE, status).status is status
    else:
        with pytest.raises(ValueError, match=f"from running to {status}"):
            Settlement(LEASE, status)


async def test_one_fence_guards_starts_settlements_and_renewals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So the broken variant `no_fence` removes the fence of all of them."""
    clock = ManualClock()
    renewing = heartbeat.HeartbeatRepository.__new__(heartbeat.HeartbeatRepository)
    renewing._executions = renewed = MagicMock()
    renewing._clock = clock
    stored = MagicMock(update_many=AsyncMock(return_value=MagicMock(matched_count=1)))
    database = MagicMock(clock=clock, collection=MagicMock(return_value=stored))
    leasing = leases.LeaseRepository(database, lease_owner="an owner", term=TERM)

    async def list_fences() -> list[str]:
        """Return the conditions of the writes, as text."""
        await leasing.start([AttemptStart(LEASE, 1, job_revision=1)])
        await leasing.settle([Settlement(LEASE, ExecutionStatus.QUEUED)])
        await leasing.settle_expired([Settlement(LEASE, ExecutionStatus.QUEUED)])
        renewing.renew("an owner", [LEASE], term=TERM)
        writes = [*stored.update_many.call_args_list[-3:], renewed.update_many.call_args]
        return [repr(write.args[0]) for write in writes]

    token = repr({"lease_token": LEASE.token})[1:-1]
    assert [token in fence for fence in await list_fences()] == [True] * 4
    no_fence(monkeypatch.setattr)
    assert [token in fence for fence in await list_fences()] == [False] * 4


def test_results_rest_on_reads_of_what_a_majority_has() -> None:
    """A start that only a lost primary had must not be delivered."""
    stored = MagicMock()
    database = MagicMock(clock=ManualClock(), collection=MagicMock(return_value=stored))
    leasing = leases.LeaseRepository(database, lease_owner="an owner", term=TERM)
    stored.with_options.assert_called_once_with(read_concern=ReadConcern("majority"))
    assert leasing._majority is stored.with_options.return_value


@pytest.mark.parametrize("text", ["x", "é", "€", "😀", "\ud800", "\x00"])
def test_the_size_of_a_settlement_is_not_less_than_its_bytes(text: str) -> None:
    """The recorder adds these sizes to keep a statement below the limit of MongoDB."""
    headers = {f"{text}{n}": text * 100 for n in range(100)}
    for body in ("", text * 10_000):
        response = TargetResponse(status=200, headers=headers, body=body)
        outcome = Outcome(AttemptOutcome.FAILED, Failure.STATUS, text * 300, response)
        lease = Lease("0" * 32, 1)
        settlement = Settlement(lease, ExecutionStatus.FAILED, 1, outcome)
        storable = "\ud800" not in text and "\x00" not in text
        stages = {"stages": settlement_stages([settlement], {"$literal": None})} if storable else {}
        assert settlement.size >= len(bson.encode(stages)) - _STAGES_BYTES
        assert settlement.size < 2_000 + 4 * (10_000 + 300 + 100 * 130)


def test_a_settlement_without_its_response_keeps_the_status_and_the_error() -> None:
    response = TargetResponse(status=201, headers={"a": "b"}, body="text")
    outcome = Outcome(AttemptOutcome.SUCCEEDED, None, "an error", response)
    settlement = Settlement(LEASE, ExecutionStatus.SUCCEEDED, 1, outcome)
    smaller = settlement.without_response(Truncation.TOO_LARGE)
    assert smaller is not None
    assert smaller.without_response(Truncation.TOO_LARGE) is None
    assert smaller.outcome == replace(outcome, response=TRUNCATED)
    assert replace(smaller, outcome=outcome) == settlement


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        Outcome(AttemptOutcome.SUCCEEDED),
        Outcome(AttemptOutcome.SUCCEEDED, response=TargetResponse(status=204)),
    ],
)
def test_nothing_can_be_left_out_of_a_settlement_without_a_response(
    outcome: Outcome | None,
) -> None:
    assert (
        Settlement(LEASE, ExecutionStatus.SUCCEEDED, 1, outcome).without_response(
            Truncation.TOO_LARGE
        )
        is None
    )


def test_a_fence_has_one_group_for_equal_tokens_and_attempts() -> None:
    held = [Lease(f"{n:032x}", 1 + n % 3) for n in range(10_000)]
    seen = [AttemptsSeen(lease.token - 1, is_open=False) for lease in held]
    fences = [lease_fence.build_fence(held), lease_fence.build_fence(held, seen)]
    for fence in fences:
        assert len(fence["$or"]) == 3
        assert sorted(len(group["_id"]["$in"]) for group in fence["$or"]) == [3_333, 3_333, 3_334]
        assert "$expr" not in fence
        assert "indexOfArray" not in str(fence)
