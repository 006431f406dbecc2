"""The invariants of a chaos run: pure functions that return the violations."""

from tests.chaos.evidence import Evidence
from tests.chaos.invariants.attempts import (
    check_abandoned,
    check_attempts,
    check_deliveries,
    check_early,
    check_repeated,
)
from tests.chaos.invariants.examination import Check, Examination, Finding
from tests.chaos.invariants.floor import check_floor
from tests.chaos.invariants.outcomes import (
    check_accepted,
    check_cancels,
    check_failures,
    check_locks,
    check_skips,
    check_stuck,
    check_successes,
)
from tests.chaos.invariants.reads import check_reads
from tests.chaos.invariants.slots import (
    check_backfills,
    check_duplicates,
    check_gaps,
    check_invented,
    check_late_slots,
    check_max_runs,
    check_missing,
    check_run_at,
)
from tests.chaos.invariants.times import check_starts, check_takeovers
from tests.chaos.invariants.writes import (
    check_acknowledged,
    check_call_times,
    check_content,
    check_revisions,
)
from tests.chaos.limits import RESPONSE_SECONDS
from tests.support.replay import judge_history

CHECKS: dict[str, Check] = {
    "enough was examined": check_floor,
    "no slot recorded twice": check_duplicates,
    "no slot missing": check_missing,
    "no slot invented": check_invented,
    "late slots as the policy says": check_late_slots,
    "each gap has a cause": check_gaps,
    "max_runs kept": check_max_runs,
    "jitter in bounds": check_run_at,
    "backfills are complete": check_backfills,
    "no execution stuck": check_stuck,
    "no lock on a final record": check_locks,
    "each success was received": check_successes,
    "each accepted attempt succeeds": check_accepted,
    "each failure has a cause": check_failures,
    "each skip has a cause": check_skips,
    "each cancel has a cause": check_cancels,
    "each delivery is in its attempt": check_deliveries,
    "no attempt sent twice": check_repeated,
    "no delivery early": check_early,
    "attempts in bounds": check_attempts,
    "abandoned only by a fault": check_abandoned,
    "starts in time": check_starts,
    "takeovers in time": check_takeovers,
    "acknowledged writes kept": check_acknowledged,
    "no edit lost": check_revisions,
    "edits stored as sent": check_content,
    "reads are not outdated": check_reads,
    f"calls end within {RESPONSE_SECONDS} s": check_call_times,
}


def judge(evidence: Evidence) -> list[Finding]:
    """Check every invariant, in the order of the table."""
    examination = Examination(evidence)
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        examined, violations = check(examination)
        findings.append(Finding(name, examined, tuple(violations)))
    for name, examined, violations in judge_history(examination.replay):
        findings.append(Finding(name, examined, tuple(violations)))
    return findings
