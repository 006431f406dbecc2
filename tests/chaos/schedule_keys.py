"""Finds out which schedule of the driver each stored schedule is."""

from collections.abc import Iterator
from datetime import timedelta

from tests.chaos.evidence import Evidence, JobDefinition, ScheduleDefinition, ScheduleType
from tests.chaos.oracle import SlotKey
from tests.support.changes import Document


def map_job_names(evidence: Evidence) -> dict[str, str]:
    """Return the names of all jobs by their ids, also of deleted ones."""
    names = {call.job_id: call.job for call in evidence.calls if call.job_id is not None}
    for change in evidence.changes:  # an insertion names a job that was deleted later
        if change.collection == "jobs" and change.operation == "insert":
            names[change.id] = change.fields["name"]
    return names | {job["_id"]: job["name"] for job in evidence.jobs}


def map_schedules(evidence: Evidence) -> dict[str, SlotKey]:
    """Return the job and the key of each schedule by its id.

    The responses name the ids. If there was no response, the stored rule shows which schedule it
    is, because the rules in a job differ.
    """
    keys = {
        id_: (call.job, key) for call in evidence.calls for key, id_ in call.schedule_ids.items()
    }
    definitions = _list_definitions(evidence)
    for name, stored in _list_stored(evidence):
        if stored["id"] not in keys:
            for schedule in definitions.get(name, ()):
                if _is_same(schedule, stored):
                    keys[stored["id"]] = (name, schedule.key)
                    break
    return keys | _map_only_schedules(evidence, definitions, known=keys)


def _list_definitions(evidence: Evidence) -> dict[str, list[ScheduleDefinition]]:
    """Return every form of every schedule, by the name of the job."""
    definitions: dict[str, list[ScheduleDefinition]] = {}
    for call in evidence.calls:
        definition = call.definition or JobDefinition()
        definitions.setdefault(call.job, []).extend(definition.schedules)
    return definitions


def _list_stored(evidence: Evidence) -> Iterator[tuple[str, Document]]:
    """Each stored schedule with the name of its job, as it was at some time."""
    names = map_job_names(evidence)
    for job in evidence.jobs:
        for schedule in job.get("schedules", ()):
            yield job["name"], schedule
    for change in evidence.changes:
        if change.collection == "jobs":
            for schedule in change.fields.get("schedules", ()):
                yield names.get(change.id, ""), schedule


def _is_same(schedule: ScheduleDefinition, stored: Document) -> bool:
    if schedule.type != stored["type"]:
        return False
    match schedule.type:
        case ScheduleType.ONE_TIME:
            return bool(schedule.run_at == stored["run_at"])
        case ScheduleType.INTERVAL:
            period = timedelta(seconds=stored["interval_seconds"])
            return bool(schedule.period == period and schedule.anchor == stored["anchor_at"])
    assert schedule.period is not None
    return bool(stored["cron_expression"] == make_cron_expression(schedule.period))


def make_cron_expression(period: timedelta) -> str:
    """Return the expression, with a field for seconds, of a schedule that is due every period."""
    return f"*/{int(period.total_seconds())} * * * * *"


def _map_only_schedules(
    evidence: Evidence,
    definitions: dict[str, list[ScheduleDefinition]],
    *,
    known: dict[str, SlotKey],
) -> dict[str, SlotKey]:
    """Map the schedules of jobs that never had more than one, for evidence that is made up."""
    names = map_job_names(evidence)
    mapped: dict[str, SlotKey] = {}
    for execution in evidence.executions:
        name, id_ = names.get(execution["job_id"], ""), execution.get("schedule_id")
        keys = {schedule.key for schedule in definitions.get(name, ())}
        if id_ is not None and id_ not in known and len(keys) == 1:
            mapped[id_] = (name, keys.pop())
    return mapped
