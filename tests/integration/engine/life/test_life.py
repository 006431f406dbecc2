"""The engine behaves as its model predicts; broken variants of it do not.

`LIFE_EXAMPLES=2000 pytest tests/integration/engine/life --timeout=0` tries more examples, with a
new seed each time, and reduces a failing one, which takes minutes.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from bson import Timestamp
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from pymongo import MongoClient

from tests.integration.engine.life.checked_engine import open_session
from tests.integration.engine.life.machine import LifeMachine
from tests.support import variants
from tests.support.changes import Change, read_changes
from tests.support.replay import Replay, judge_history

pytestmark = pytest.mark.slow

EXAMPLES = os.environ.get("LIFE_EXAMPLES")

UNBROKEN = settings(
    max_examples=int(EXAMPLES or 80),
    stateful_step_count=50,
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
BROKEN = settings(UNBROKEN, max_examples=400, derandomize=True, phases=[Phase.generate])
"""A test stops at the first failing example, usually one of the first ten."""


def run_machine(uri: str, name: str, bounds: settings) -> None:
    """Run the state machine on a database that nothing else uses."""
    with open_session(uri, name) as session:

        class OnThisDatabase(LifeMachine):
            def __init__(self) -> None:
                super().__init__(session)

        run_state_machine_as_test(OnThisDatabase, settings=bounds)


def test_the_engine_behaves_as_the_model_predicts(
    mongo_uri: str, database_name: str, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    since: Timestamp = mongo_client[database_name].command("ping")["operationTime"]
    run_machine(mongo_uri, database_name, UNBROKEN)

    # The machine sees only the state after each step; this check sees every single write.
    history = read_changes(mongo_client[database_name], since=since)
    for changes in split_examples(history):
        for name, _, violations in judge_history(Replay(changes)):
            assert not violations, (name, violations)


def split_examples(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Split the changes by example. The deletion of executions marks a new example."""
    example: list[Change] = []
    for change in changes:
        if (change.collection, change.operation) != ("executions", "delete"):
            example.append(change)
        elif example:
            yield example
            example = []
    yield example


DETECTABLE = sorted(variants.VARIANTS.keys() - variants.NOT_IN_LIFE)


@pytest.mark.parametrize("variant", DETECTABLE)
def test_a_broken_variant_is_detected(
    variant: str, mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants.VARIANTS[variant](monkeypatch.setattr)
    with pytest.raises(AssertionError):
        run_machine(mongo_uri, database_name, BROKEN)
