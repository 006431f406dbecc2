"""Each slot has one record, as the oracle expects it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from tests.chaos.evidence import Gap, Result
from tests.chaos.invariants.examination import CLOCK_TOLERANCE, Examination
from tests.chaos.invariants.windows import RECOVERY, list_down_times, merge
from tests.chaos.oracle import Expected, SlotKey, list_slots
from tests.support.changes import Document
from tests.support.history import Span

_NOT_COUNTED = {"skipped", "missed"}
"""Statuses of records that do not count towards `max_runs`."""

_LEAST_GAP = timedelta(seconds=10)
"""A time without any scheduler is a gap only if it is longer."""

_NOTHING = Expected(frozenset(), frozenset())


def _name_key(examination: Examination, execution: Document) -> SlotKey:
    unknown = ("an unknown schedule", str(execution["schedule_id"]))
    return examination.keys.get(execution["schedule_id"], unknown)


def _group_scheduled(examination: Examination) -> dict[SlotKey, list[Document]]:
    """The records of slots by their schedules."""
    grouped: dict[SlotKey, list[Document]] = {key: [] for key in examination.expected}
    for execution in examination.evidence.executions:
        if execution["kind"] == "scheduled":
            grouped.setdefault(_name_key(examination, execution), []).append(execution)
    return grouped


def _expect(examination: Examination, key: SlotKey, records: Iterable[Document]) -> Expected:
    """What the oracle expects of a schedule, up to the slot that reached `max_runs`."""
    runs = [r["scheduled_for"] for r in records if r["status"] not in _NOT_COUNTED]
    return examination.expected.get(key, _NOTHING).limit(runs)


def _list_covered(examination: Examination, key: SlotKey, record: Document) -> set[datetime]:
    """The slots of a record: one, or all that a `missed` record covers."""
    first, last = record["scheduled_for"], record.get("missed_until")
    if last is None or key not in examination.expected:
        return {first}
    may = examination.expected[key].may
    return {first} | {slot for slot in may if first < slot <= last}


def _count(
    examination: Examination, key: SlotKey, records: Iterable[Document]
) -> Counter[datetime]:
    counter: Counter[datetime] = Counter()
    for record in records:
        counter.update(_list_covered(examination, key, record))
    return counter


def check_duplicates(examination: Examination) -> tuple[int, Iterable[str]]:
    keys = Counter(
        (e["kind"], e.get("backfill_id"), e["schedule_id"], e["scheduled_for"])
        for e in examination.evidence.executions
        if e["kind"] in {"scheduled", "backfill"}
    )
    violations = [f"{n} records of {key}" for key, n in keys.items() if n > 1]
    for key, records in _group_scheduled(examination).items():
        counts = _count(examination, key, records)
        violations += [
            f"{key}: {slot} is recorded {n} times" for slot, n in counts.items() if n > 1
        ]
    return keys.total(), violations


def check_missing(examination: Examination) -> tuple[int, Iterable[str]]:
    violations: list[str] = []
    examined = 0
    for key, records in _group_scheduled(examination).items():
        must = _expect(examination, key, records).must
        examined += len(must)
        missing = must - _count(examination, key, records).keys()
        violations += [f"{key}: {slot} has no record" for slot in sorted(missing)]
    return examined, violations


def check_invented(examination: Examination) -> tuple[int, Iterable[str]]:
    violations: list[str] = []
    examined = 0
    for key, records in _group_scheduled(examination).items():
        slots = _count(examination, key, records).keys()
        examined += len(slots)
        may = examination.expected.get(key, _NOTHING).may
        violations += [f"{key}: {slot} is not a slot" for slot in sorted(slots - may)]
    return examined, violations


def check_late_slots(examination: Examination) -> tuple[int, Iterable[str]]:
    """Only slots in a gap are missed: those that the catch-up policy does not execute, in one
    counted record for each schedule and gap."""
    violations: list[str] = []
    examined = 0
    for key, records in _group_scheduled(examination).items():
        expected = _expect(examination, key, records)
        missed = [record for record in records if record["status"] == "missed"]
        examined += len(expected.must_run) + len(missed)
        covered = set(_count(examination, key, missed))
        wrong = (covered - expected.may_miss) | (covered & expected.must_run)
        violations += [f"{key}: {slot} is missed, but was not late" for slot in sorted(wrong)]
        ran = {r["scheduled_for"] for r in records if r["status"] != "missed"}
        if examination.evidence.gaps is not None:
            violations += [
                f"{key}: {slot} is executed against the catch-up policy"
                for slot in sorted(ran & expected.must_miss)
            ]
        violations += _find_wrong_counts(examination, key, missed)
        violations += _find_split_records(examination, key, missed)
    return examined, violations


def _find_wrong_counts(
    examination: Examination, key: SlotKey, missed: Iterable[Document]
) -> Iterator[str]:
    """Yield wrong numbers of slots. A slot that is not certain may be counted or not."""
    must = examination.expected.get(key, _NOTHING).must
    for record in missed:
        slots = _list_covered(examination, key, record)
        count = record.get("missed_count", 1)
        if not len(slots & must) <= count <= len(slots):
            yield f"{key}: {len(slots)} slots are counted as {count} missed ones"


def _find_split_records(
    examination: Examination, key: SlotKey, missed: Iterable[Document]
) -> Iterator[str]:
    """Yield the gaps of which a schedule has several `missed` records, or parts of one."""
    gaps = examination.evidence.gaps
    if gaps is None:
        return
    counts: Counter[Gap] = Counter()
    for record in missed:
        last = record.get("missed_until") or record["scheduled_for"]
        of = [gap for gap in gaps if gap.start < record["scheduled_for"] and last <= gap.end]
        if not of:
            yield f"{key}: a missed record from {record['scheduled_for']} lies in no single gap"
        counts.update(of)
    yield from (f"{key}: {n} missed records of {gap}" for gap, n in counts.items() if n > 1)


def check_gaps(examination: Examination) -> tuple[int, Iterable[str]]:
    """A gap needs a fault that stopped all schedulers or the database: it began before the gap, and
    the gap was found shortly after it. Only a gap before the first call needs none."""
    evidence = examination.evidence
    gaps = evidence.gaps or []
    began = min((call.sent_at for call in evidence.calls), default=None)
    causes = merge(
        Span(span.since, span.until + RECOVERY)
        for span in list_down_times(evidence.faults, evidence.load.processes)
    )
    violations: list[str] = []
    for gap in gaps:
        found_at = gap.found_at or gap.end
        if found_at - gap.start <= _LEAST_GAP:
            violations.append(f"{gap} is too short")
        if began is not None and gap.end < began:
            continue
        if not any(cause.since <= gap.start and found_at <= cause.until for cause in causes):
            violations.append(f"no fault explains {gap}")
    return len(gaps), violations


def check_max_runs(examination: Examination) -> tuple[int, Iterable[str]]:
    """A schedule has at most `max_runs` executions, and counts them as its records do."""
    violations: list[str] = []
    stored = {s["id"]: s for job in examination.evidence.jobs for s in job.get("schedules", ())}
    runs: Counter[str] = Counter()
    limits: dict[str, int] = {}
    for key, records in _group_scheduled(examination).items():
        limit = examination.expected.get(key, _NOTHING).max_runs
        if limit is None:
            continue
        for record in records:
            limits[record["schedule_id"]] = limit
            runs[record["schedule_id"]] += record["status"] not in _NOT_COUNTED
    for id_, limit in limits.items():
        if runs[id_] > limit:
            violations.append(f"schedule {id_}: {runs[id_]} executions, {limit} are allowed")
        if id_ in stored and stored[id_].get("runs", 0) != runs[id_]:
            violations.append(
                f"schedule {id_}: {runs[id_]} executions, counted {stored[id_].get('runs')}"
            )
    return len(limits), violations


def check_run_at(examination: Examination) -> tuple[int, Iterable[str]]:
    """Jitter delays the start: less than `jitter_seconds`, and never past the next slot. Late slots
    start ten per second."""
    violations: list[str] = []
    examined = 0
    jitters = _list_jitters(examination)
    for life in examination.lives.values():
        record = life.inserted
        if record["kind"] != "scheduled" or record["status"] != "queued":
            continue
        examined += 1
        slot, run_at = record["scheduled_for"], record["run_at"]
        most = jitters.get(_name_key(examination, record), timedelta(0))
        late = _is_late(examination, slot, life.inserted_at)
        if run_at < slot - CLOCK_TOLERANCE:
            violations.append(f"{life.id}: {slot} may start at {run_at}")
        elif run_at > slot + most and not late:
            violations.append(f"{life.id}: {slot} starts only at {run_at}")
    return examined, violations


def _is_late(examination: Examination, slot: datetime, inserted_at: datetime) -> bool:
    """Whether a slot lies in a gap, or may do so because the gaps are not known."""
    gaps = examination.evidence.gaps
    if gaps is None:
        return inserted_at - slot > _LEAST_GAP
    return any(gap.start < slot <= gap.end for gap in gaps)


def _list_jitters(examination: Examination) -> dict[SlotKey, timedelta]:
    """The longest delay of each schedule."""
    jitters: dict[SlotKey, timedelta] = {}
    for name, calls in examination.calls.items():
        for definition in (call.definition for call in calls if call.definition is not None):
            for schedule in definition.schedules:
                key = (name, schedule.key)
                most = min(schedule.jitter, schedule.period or schedule.jitter)
                jitters[key] = max(most, jitters.get(key, most))
    return jitters


def check_backfills(examination: Examination) -> tuple[int, Iterable[str]]:
    """An acknowledged backfill has one record for each slot of its range, and no other."""
    recorded: dict[str, set[tuple[SlotKey, datetime]]] = {}
    for execution in examination.evidence.executions:
        if execution["kind"] == "backfill":
            key = _name_key(examination, execution)
            recorded.setdefault(execution["backfill_id"], set()).add(
                (key, execution["scheduled_for"])
            )
    violations: list[str] = []
    backfills = [c for c in examination.evidence.calls if c.verb == "backfill"]
    for call in backfills:
        if call.result is not Result.OK or call.backfill_id is None:
            continue
        slots = recorded.get(call.backfill_id, set())
        if call.count != len(slots):
            violations.append(f"{call.job}: backfill of {call.count} slots, {len(slots)} recorded")
        wanted = _list_wanted(examination, call.job, call.start, call.end)
        if wanted is not None and slots != wanted:
            violations.append(f"{call.job}: a backfill recorded {len(slots)}, not {len(wanted)}")
    return len(backfills), violations


def _list_wanted(
    examination: Examination, job: str, start: datetime | None, end: datetime | None
) -> set[tuple[SlotKey, datetime]] | None:
    """The slots of a job in [start, end), or None if edits changed its schedules."""
    calls = examination.calls.get(job, [])
    definitions = {call.definition for call in calls if call.definition is not None}
    if len(definitions) != 1 or start is None or end is None:
        return None
    [definition] = definitions
    tick = timedelta(microseconds=1)
    return {
        ((job, schedule.key), slot)
        for schedule in definition.schedules
        for slot in list_slots(schedule, start - tick, end - tick)
    }
