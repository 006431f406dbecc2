"""The engine lives as its model foretells; broken variants of it do not.

`LIFE_EXAMPLES=2000 pytest tests/integration/engine/test_life.py --timeout=0` looks further, with a
fresh seed each time, and makes what it finds small, which takes minutes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from bson import Timestamp
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from pymongo import MongoClient

from app.engine import executor
from app.models.execution import Execution, ExecutionStatus
from app.policies.retry import Decision, decide
from app.repositories import indexes, leases
from app.repositories.documents import from_document
from app.repositories.indexes import INDEXES
from app.repositories.leases import LeaseRepository, Settlement
from app.repositories.overlaps import OverlapRepository
from app.services import firing
from app.services.firing import Firing
from tests.chaos import variants
from tests.chaos.evidence import Change, Evidence, read_database
from tests.chaos.history import Replay, judge_history
from tests.chaos.variants import Patch
from tests.support.life.machine import LifeMachine
from tests.support.life.stage import open_bench

EXAMPLES = os.environ.get("LIFE_EXAMPLES")

AS_IT_IS = settings(
    max_examples=int(EXAMPLES or 80),
    stateful_step_count=50,
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
BROKEN = settings(AS_IT_IS, max_examples=400, derandomize=True, phases=[Phase.generate])
"""It ends with the first life that goes wrong: most often one of the first ten."""


def live(uri: str, name: str, bounds: settings) -> None:
    """Run the machine, for so long, on a database that nobody else uses."""
    with open_bench(uri, name) as bench:

        class OnThisBench(LifeMachine):
            def __init__(self) -> None:
                super().__init__(bench)

        run_state_machine_as_test(OnThisBench, settings=bounds)


def test_the_engine_lives_as_foretold(
    mongo_uri: str, database_name: str, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    since: Timestamp = mongo_client[database_name].command("ping")["operationTime"]
    live(mongo_uri, database_name, AS_IT_IS)

    # Of each single write, where the machine sees only what stands after a step:
    evidence = Evidence()
    read_database(mongo_client, database_name, evidence, since=since)
    for changes in examples(evidence.changes):
        for law, _, violations in judge_history(Replay(changes)):
            assert not violations, law


def examples(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """The changes of each example: the next one begins by deleting what the last one left."""
    present: list[Change] = []
    for change in changes:
        if (change.collection, change.operation) != ("executions", "delete"):
            present.append(change)
        elif present:
            yield present
            present = []
    yield present


def hasty_reaper(patch: Patch) -> None:
    """A lease counts as run out as soon as somebody looks."""

    async def list_running(self: LeaseRepository, *, limit: int) -> list[Any]:
        found = self._executions.find({"status": "running"}).limit(limit)
        return [from_document(Execution, document) for document in await found.to_list(None)]

    async def settle(self: LeaseRepository, settlements: Sequence[Settlement]) -> list[bool]:
        raise_token = {"$set": {"lease_token": {"$add": ["$lease_token", 1]}}}
        held = self._held([settlement.lease for settlement in settlements])
        await self._update(settlements, held, [raise_token])
        return [True] * len(settlements)

    patch(LeaseRepository, "list_expired", list_running)
    patch(LeaseRepository, "settle_expired", settle)


def no_live_index(patch: Patch) -> None:
    """Nothing keeps a second execution of a job from being live."""
    others = [index for index in INDEXES["executions"] if index.document["name"] != "live"]
    patch(indexes, "INDEXES", INDEXES | {"executions": others})


def deaf_finish(patch: Patch) -> None:
    """The end of an attempt is recorded whatever somebody has asked for."""
    stages = leases._settlement_stages

    def deaf(settlements: Sequence[Settlement], now: Any) -> list[dict[str, Any]]:
        first, *others = stages(settlements, now)
        *_, asked_for = first["$set"]["status"]["$cond"]
        return [{"$set": first["$set"] | {"status": asked_for}}, *others]

    patch(leases, "_settlement_stages", deaf)


def endless_attempts(patch: Patch) -> None:
    """What failed is tried again, however often it was."""

    def again(*args: Any, **named: Any) -> Decision:
        decision = decide(*args, **named)
        failed = decision.status in {ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT}
        return Decision(ExecutionStatus.QUEUED) if failed else decision

    patch(executor, "decide", again)


def claim_what_is_held(patch: Patch) -> None:
    """A claim does not look whether an execution waits for another one's end."""
    claimable = LeaseRepository.claimable

    def any_queued(self: LeaseRepository) -> dict[str, Any]:
        return {key: value for key, value in claimable(self).items() if key != "held"}

    patch(LeaseRepository, "claimable", any_queued)


def no_promotion(patch: Patch) -> None:
    """Nobody lets those go on that wait."""

    async def promote(self: OverlapRepository, job_id: str) -> bool:
        return False

    patch(OverlapRepository, "promote", promote)


def cursor_before_record(patch: Patch) -> None:
    """The cursors move first, then the records are written."""
    record = Firing._record

    async def cursor_first(
        self: Firing, due: Sequence[firing._Due], now: datetime, read_at: float
    ) -> int:
        if all(one.schedule.max_runs is None for one in due):  # else runs are counted wrongly, too
            moves = firing._moves(due, {one.schedule.id: 0 for one in due})
            await self._jobs.advance(moves)
        return await record(self, due, now, read_at)

    patch(Firing, "_record", cursor_first)


VARIANTS: dict[str, Callable[[Patch], None]] = {
    "claim what is held": claim_what_is_held,
    "cursor before record": cursor_before_record,
    "deaf finish": deaf_finish,
    "endless attempts": endless_attempts,
    "hasty reaper": hasty_reaper,
    "no fence": variants.no_fence,
    "no live index": no_live_index,
    "no promotion": no_promotion,
    "no slot index": variants.no_slot_index,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_broken_variant_does_not(
    variant: str, mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    VARIANTS[variant](monkeypatch.setattr)
    with pytest.raises(AssertionError):
        live(mongo_uri, database_name, BROKEN)
