"""The engine lives as its model foretells; broken variants of it do not.

`LIFE_EXAMPLES=2000 pytest tests/integration/engine/test_life.py --timeout=0` looks further, with a
fresh seed each time, and makes what it finds small, which takes minutes.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from bson import Timestamp
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from pymongo import MongoClient

from tests.integration.engine.life.machine import LifeMachine
from tests.integration.engine.life.stage import open_bench
from tests.support import variants
from tests.support.changes import Change, read_changes
from tests.support.history import Replay, judge_history

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
    history = read_changes(mongo_client[database_name], since=since)
    for changes in examples(history):
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


CAUGHT = sorted(variants.VARIANTS.keys() - {"acknowledged_by_one"})
"""Every variant but the one that only a failover shows; `make chaos-smoke` tries that one."""


@pytest.mark.parametrize("variant", CAUGHT)
def test_a_broken_variant_does_not(
    variant: str, mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants.VARIANTS[variant](monkeypatch.setattr)
    with pytest.raises(AssertionError):
        live(mongo_uri, database_name, BROKEN)
