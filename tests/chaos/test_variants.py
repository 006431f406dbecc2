"""The checker detects broken variants of the engine and passes the unchanged engine.

The state machine detects most of these variants, too. `make chaos-smoke` tests
`acknowledged_by_one`, which shows only after a failover.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from bson import Timestamp
from pymongo import MongoClient

from tests.chaos import scenarios
from tests.chaos.evidence import Evidence
from tests.chaos.invariants import judge
from tests.chaos.reading import read_database
from tests.chaos.recorder import EvidenceRecorder
from tests.chaos.scenarios import Scenario
from tests.support import variants, wrong_records
from tests.support.engine import open_world


@dataclass(frozen=True, slots=True)
class VariantCase:
    """A variant, the events that expose it, and the invariant that the checker then reports."""

    variant: Callable[[variants.Patch], None]
    scenario: Scenario
    invariant: str


CASES = [
    VariantCase(variants.next_run_before_record, scenarios.crash_while_firing, "no slot missing"),
    VariantCase(variants.no_fence, scenarios.finish_late, "each success was received"),
    VariantCase(variants.no_slot_index, scenarios.fire_by_two_schedulers, "no slot recorded twice"),
    VariantCase(variants.own_clock, scenarios.fire_one_slot, "no slot invented"),
    VariantCase(
        variants.early_reaper, scenarios.reap_during_an_attempt, "abandoned only by a fault"
    ),
    VariantCase(variants.no_live_index, scenarios.overlap_under_skip, "one live lease per job"),
    VariantCase(
        variants.uncancellable_finish,
        scenarios.cancel_during_an_attempt,
        "acknowledged writes kept",
    ),
    VariantCase(variants.endless_attempts, scenarios.reject_every_attempt, "attempts in bounds"),
    VariantCase(
        variants.claim_while_waiting, scenarios.overlap_under_buffer_one, "one live lease per job"
    ),
    VariantCase(variants.no_promotion, scenarios.overlap_under_buffer_one, "no execution stuck"),
    VariantCase(wrong_records.late_promotion, scenarios.overlap_under_buffer_one, "starts in time"),
    VariantCase(
        wrong_records.no_retries, scenarios.reject_the_first_attempt, "each failure has a cause"
    ),
    VariantCase(
        wrong_records.lost_success, scenarios.fire_one_slot, "each accepted attempt succeeds"
    ),
    VariantCase(wrong_records.kept_live_for, scenarios.fire_one_slot, "no lock on a final record"),
    VariantCase(wrong_records.no_max_runs, scenarios.fire_with_max_runs, "max_runs kept"),
    VariantCase(
        wrong_records.no_catch_up_policy,
        scenarios.fire_after_an_outage,
        "late slots as the policy says",
    ),
    VariantCase(
        wrong_records.missed_twice, scenarios.fire_after_an_outage, "no slot recorded twice"
    ),
    VariantCase(wrong_records.negative_jitter, scenarios.fire_with_jitter, "jitter in bounds"),
    VariantCase(
        wrong_records.skips_without_overlap, scenarios.fire_one_slot, "each skip has a cause"
    ),
    VariantCase(wrong_records.stale_cache, scenarios.read_after_an_edit, "reads are not outdated"),
]


def test_every_variant_that_shows_without_a_failover_has_a_case() -> None:
    covered = {case.variant.__name__ for case in CASES}
    assert covered == variants.VARIANTS.keys() - {"acknowledged_by_one"}


@pytest.fixture
def collect_evidence(
    mongo_uri: str, database_name: str, mongo_client: MongoClient[dict[str, Any]], redis_url: str
) -> Callable[[Scenario], Any]:
    """Returns a function that carries out a scenario and returns its evidence."""

    async def collect(scenario: Scenario) -> Evidence:
        since: Timestamp = mongo_client[database_name].command("ping")["operationTime"]
        world = await open_world(mongo_uri, database_name)
        try:
            recorder = EvidenceRecorder(world, redis_url=redis_url)
            await scenario(recorder)
        finally:
            await world.close()
        evidence = recorder.evidence
        read_database(mongo_client, database_name, evidence, since=since)
        evidence.changes = list(map(recorder.move_to_manual_clock, evidence.changes))
        return evidence

    return collect


def list_violations(evidence: Evidence) -> dict[str, tuple[str, ...]]:
    return {found.name: found.violations for found in judge(evidence) if found.violations}


SCENARIOS = sorted({case.scenario for case in CASES}, key=lambda scenario: scenario.__name__)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_the_checker_passes_the_unchanged_engine(
    scenario: Scenario, collect_evidence: Callable[[Scenario], Any]
) -> None:
    assert list_violations(await collect_evidence(scenario)) == {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.variant.__name__)
async def test_the_checker_detects_the_variant(
    case: VariantCase,
    collect_evidence: Callable[[Scenario], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case.variant(monkeypatch.setattr)
    assert case.invariant in list_violations(await collect_evidence(case.scenario))
