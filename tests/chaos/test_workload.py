"""The load of a chaos run has every kind of job, and its edits never make two schedules alike."""

from datetime import UTC, datetime, timedelta
from random import Random

from tests.chaos.evidence import Behaviour, JobDefinition, ScheduleDefinition, ScheduleType
from tests.chaos.workload import Workload, choose_edit, make_body

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
OVERLAP_POLICIES = {
    *("skip", "buffer_one", "buffer_all"),
    *("cancel_other", "terminate_other", "allow_all"),
}


def define_all(workload: Workload) -> list[JobDefinition]:
    return [workload.define(number, NOON) for number in range(workload.first_jobs)]


def test_a_hundred_jobs_have_every_kind_of_schedule_policy_and_receiver() -> None:
    jobs = define_all(Workload(jobs=100))
    schedules = [schedule for job in jobs for schedule in job.schedules]
    assert {job.overlap_policy for job in jobs} == OVERLAP_POLICIES
    assert {job.catch_up for job in jobs} == {"one", "all", "none"}
    assert {job.behaviour for job in jobs} == set(Behaviour)
    assert {schedule.type for schedule in schedules} == set(ScheduleType)
    assert any(len(job.schedules) > 1 for job in jobs)
    assert any(schedule.jitter for schedule in schedules)
    assert any(schedule.max_runs for schedule in schedules)
    slow = {job.overlap_policy for job in jobs if job.behaviour == Behaviour.SLOW}
    assert slow == OVERLAP_POLICIES


def test_each_hostile_path_gets_two_jobs_beside_the_others() -> None:
    workload = Workload(jobs=100, paths=["hang", "reset"])
    jobs = define_all(workload)
    assert [job.behaviour for job in jobs[100:]] == ["hang", "hang", "reset", "reset"]
    assert jobs[:100] == define_all(Workload(jobs=100))
    assert {job.behaviour for job in jobs} == set(workload.behaviours)


def test_receivers_with_silent_names_have_different_names() -> None:
    jobs = define_all(Workload(jobs=16, silent_names=2))[16:]
    urls = {
        make_body(f"job {number}", job, url="http://receiver")["target"]["url"]
        for number, job in enumerate(jobs)
    }
    assert urls == {f"http://job-{n}.dns.test/unresolved" for n in (0, 1)}


def test_the_rate_counts_one_schedule_of_each_job_that_does_not_end() -> None:
    workload = Workload(jobs=16, period=timedelta(seconds=2))
    assert workload.slots_per_second == 15 / 2


def test_schedules_of_a_job_differ_after_any_number_of_edits() -> None:
    random = Random(1)
    for job in define_all(Workload(jobs=48)):
        edited = job
        for number in range(20):
            edited = choose_edit(edited, random, number, NOON + number * timedelta(seconds=1))
            rules = [_rule(schedule) for schedule in edited.schedules]
            keys = [schedule.key for schedule in edited.schedules]
            assert len(set(rules)) == len(rules)
            assert len(set(keys)) == len(keys)
            assert edited.description == f"edit {number}"


def _rule(schedule: ScheduleDefinition) -> tuple[object, ...]:
    return (schedule.type, schedule.period, schedule.anchor, schedule.run_at)


def test_an_edit_sends_the_ids_of_the_schedules_that_stay() -> None:
    job = next(job for job in define_all(Workload()) if len(job.schedules) == 2)
    body = make_body("job", job, url="http://receiver", ids={"a": "1"})
    assert [schedule.get("id") for schedule in body["schedules"]] == ["1", None]
