"""A settlement contains only legal moves and the fence of the lease."""

from datetime import timedelta
from unittest.mock import MagicMock

import pytest

from app.models.execution import MOVES, ExecutionStatus
from app.repositories import heartbeat, lease_fence, leases
from app.repositories.lease_fence import Lease
from app.repositories.settlements import Settlement
from tests.support.clock import ManualClock
from tests.support.variants import no_fence

LEASE = Lease("an execution", 3)


@pytest.mark.parametrize("status", ExecutionStatus)
def test_a_settlement_accepts_only_legal_moves_from_running(status: ExecutionStatus) -> None:
    if status in MOVES[ExecutionStatus.RUNNING]:
        assert Settlement(LEASE, status).status is status
    else:
        with pytest.raises(ValueError, match=f"from running to {status}"):
            Settlement(LEASE, status)


def test_one_fence_guards_settlements_and_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the broken variant `no_fence` removes the fence of settlements and of renewals."""
    renewing = heartbeat.HeartbeatRepository.__new__(heartbeat.HeartbeatRepository)
    renewing._executions = collection = MagicMock()
    renewing._clock = ManualClock()

    def list_fences() -> list[object]:
        renewing.renew("an owner", [LEASE], term=timedelta(seconds=1))
        renewal = collection.update_many.call_args.args[0]
        return [renewal["$expr"], leases._build_fence_with([LEASE], {})["$expr"]["$and"][0]]

    token = lease_fence.build_fence([LEASE])["$expr"]
    assert list_fences() == [token, token]
    no_fence(monkeypatch.setattr)
    assert list_fences() == [True, True]
