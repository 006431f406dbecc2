"""Steps of users: requests of the API, which the model receives too."""

from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from app.errors import ConflictError
from app.models.policy import OverlapPolicy
from app.models.user import Actor, Role
from app.schemas.jobs import JobCreate, JobUpdate
from tests.integration.engine.life.checked_engine import CheckedEngine, picks
from tests.integration.engine.life.invariants import Window
from tests.integration.engine.life.records import (
    ModelExecution,
    ModelJob,
    ModelSchedule,
    ModelTrigger,
)
from tests.support.changes import Document
from tests.support.replay import UNFINISHED

MOST_JOBS = 2
ACTOR = Actor(user_id="owner", username="owner", role=Role.EDITOR)
SCHEDULE_INPUT_FIELDS = {
    "id",
    "type",
    "max_runs",
    "jitter_seconds",
    "interval_seconds",
    "run_at",
    "cron_expression",
}

policies = st.sampled_from([policy.value for policy in OverlapPolicy])
# `allow_all` is twice in the list, because it is the default of manual executions.
manual_policies = st.sampled_from(["allow_all", *(policy.value for policy in OverlapPolicy)])


def _make_trigger(body: Document, now: datetime) -> ModelTrigger:
    match body["type"]:
        case "interval":
            return ModelTrigger("interval", now, timedelta(seconds=body["interval_seconds"]))
        case "cron":
            minutes = int(body["cron_expression"].removeprefix("*/").split()[0])
            return ModelTrigger("cron", now, timedelta(minutes=minutes))
        case _:
            return ModelTrigger("one_time", datetime.fromisoformat(body["run_at"]))


def _read_jitter(body: Document) -> timedelta:
    return timedelta(seconds=body.get("jitter_seconds", 0))


_schedules = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("interval"), "interval_seconds": st.sampled_from([5, 20, 60])},
        optional={"max_runs": st.integers(1, 3), "jitter_seconds": st.just(4)},
    ),
    st.builds(
        lambda minutes: {"type": "cron", "cron_expression": f"*/{minutes} * * * *"},
        st.sampled_from([1, 2]),
    ),
    st.builds(
        lambda seconds: {"type": "one_time", "in_seconds": seconds},
        st.sampled_from([1, 30]),
    ),
)

job_bodies = st.fixed_dictionaries(
    {
        "schedules": st.lists(_schedules, min_size=1, max_size=2),
        "overlap_policy": policies,
        "catch_up": st.builds(
            lambda policy, window: {"policy": policy, "window_seconds": window},
            st.sampled_from(["one", "all", "none"]),
            st.sampled_from([30, 120]),
        ),
        "retry": st.builds(
            lambda most: {"max_attempts": most, "strategy": "fixed", "delay_seconds": 5},
            st.integers(1, 3),
        ),
    }
)


class Users(CheckedEngine):
    """Steps of users: create, change and delete jobs, request and cancel executions."""

    @initialize(body=job_bodies)
    def begin(self, body: dict[str, Any]) -> None:
        self.create_job(**body)

    @precondition(lambda self: len(self.model.jobs) < MOST_JOBS)
    @rule(body=job_bodies)
    def create(self, body: dict[str, Any]) -> None:
        self.create_job(**body)

    def create_job(self, schedules: list[Document], **fields: Any) -> None:
        now = self.world.clock.now()
        schedules = [dict(s) for s in schedules]
        for s in schedules:
            if s["type"] == "one_time":
                s["run_at"] = (now + timedelta(seconds=s.pop("in_seconds"))).isoformat()
        body = JobCreate.model_validate(
            # The model knows no timeouts, so no attempt may reach one.
            {"name": "a job", "timeout_seconds": 86_400, "schedules": schedules} | fields
        )
        stored = self.session.run(self.jobs.create(ACTOR, body))
        job = ModelJob(
            stored.id,
            policy=stored.overlap_policy.value,
            catch_up=stored.catch_up.policy.value,
            window=stored.catch_up.window,
            max_attempts=stored.retry.max_attempts,
            delay=stored.retry.delay,
            schedules=[
                ModelSchedule(
                    s.id, _make_trigger(body, now), body.get("max_runs"), _read_jitter(body)
                )
                for s, body in zip(stored.schedules, schedules, strict=True)
            ],
        )
        self.model.create(job)
        self.most_attempts[job.id] = job.max_attempts
        self._open_windows(job)

    def _open_windows(self, job: ModelJob) -> None:
        """Expect a record of each slot of the job's schedules from now on."""
        for schedule in job.schedules:
            self._open_window(job, schedule)

    def _open_window(self, job: ModelJob, schedule: ModelSchedule) -> None:
        if job.active:
            trigger, now = deepcopy(schedule.trigger), self.world.clock.now()
            window = Window(schedule.id, trigger, now, max_runs=schedule.max_runs)
            self.expected_slots.open(window)

    def _close_windows(self, job: ModelJob) -> None:
        for schedule in job.schedules:
            self.expected_slots.close(schedule.id, self.world.clock.now())

    def _choose_job(self, pick: int) -> ModelJob:
        jobs = list(self.model.jobs.values())
        return jobs[pick % len(jobs)]

    def _choose_execution(self, pick: int, *, finished: bool) -> ModelExecution:
        """Return one of the newer executions.

        In nine of twelve picks it is finished (or not, if `finished` is false), if there is one.
        """
        executions = list(self.model.executions.values())
        likely = [e for e in executions if (e.status not in UNFINISHED) is finished]
        executions = likely if likely and pick < 9 else executions
        return executions[-1 - pick % len(executions)]

    @precondition(lambda self: self.model.jobs)
    @rule(
        change=st.sampled_from(["policy", "period", "pause", "resume", "delete"]),
        pick=picks,
        policy=policies,
        seconds=st.sampled_from([5, 45]),
    )
    def change_job(self, change: str, pick: int, policy: str, seconds: int) -> None:
        job = self._choose_job(pick)
        if not job.active:  # A paused job cannot be paused again, so it is resumed.
            change = "resume" if change == "pause" else change
        match change:
            case "policy":
                body = JobUpdate.model_validate({"overlap_policy": policy})
                self.session.run(self.jobs.edit(ACTOR, job.id, body))
                self.model.set_policy(job, policy)
            case "period":
                self._change_period(pick, seconds)
            case "pause":
                self.session.run(self.jobs.pause(ACTOR, job.id))
                self.model.pause(job)
                self._close_windows(job)
            case "resume":
                self.session.run(self.jobs.resume(ACTOR, job.id))
                if not job.active:
                    self.model.resume(job)
                    self._open_windows(job)
            case "delete":
                self.session.run(self.jobs.delete(ACTOR, job.id))
                self.model.delete(job)
                self._close_windows(job)

    def _change_period(self, pick: int, seconds: int) -> None:
        """Change an interval schedule; the request repeats the job's other schedules unchanged."""
        schedules = [
            (job, i) for job in self.model.jobs.values() for i in range(len(job.schedules))
        ]
        schedules = [
            (job, i) for job, i in schedules if job.schedules[i].trigger.type == "interval"
        ]
        if not schedules:
            return
        job, index = schedules[pick % len(schedules)]
        stored = self.session.run(self.jobs.get(ACTOR, job.id))
        wanted = [
            s.model_dump(include=SCHEDULE_INPUT_FIELDS, mode="json") for s in stored.schedules
        ]
        wanted[index]["interval_seconds"] = seconds
        body = JobUpdate.model_validate({"schedules": wanted})
        self.session.run(self.jobs.edit(ACTOR, job.id, body))
        is_changed = job.schedules[index].trigger.period != timedelta(seconds=seconds)
        self.model.set_period(job, index, timedelta(seconds=seconds))
        if is_changed:
            self.expected_slots.close(job.schedules[index].id, self.world.clock.now())
            self._open_window(job, job.schedules[index])

    @precondition(lambda self: self.model.jobs)
    @rule(pick=picks, policy=manual_policies)
    def execute(self, pick: int, policy: str) -> None:
        job = self._choose_job(pick)
        call = self.execution_service.execute(ACTOR, job.id, overlap_policy=OverlapPolicy(policy))
        new = self.session.run(call)
        self.model.request_execution(new.id, job, policy, self.model.now)

    @precondition(lambda self: self.model.executions)
    @rule(pick=picks, policy=manual_policies)
    def retry(self, pick: int, policy: str) -> None:
        execution = self._choose_execution(pick, finished=True)
        job = self.model.jobs.get(execution.job_id)
        covers_several_slots = execution.missed is not None and execution.missed[1] > 1
        is_finished = execution.status not in UNFINISHED
        allowed = is_finished and not covers_several_slots and job is not None
        call = self.execution_service.retry(
            ACTOR, self._read_id(execution.key), overlap_policy=OverlapPolicy(policy)
        )
        try:
            new = self.session.run(call)
        except ConflictError:
            assert not allowed, f"a retry of {execution} was rejected"
            return
        assert allowed, f"a retry of {execution} was not rejected"
        assert job is not None
        self.model.request_execution(new.id, job, policy, execution.slot)

    @precondition(lambda self: self.model.executions)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        execution = self._choose_execution(pick, finished=False)
        allowed = execution.status in UNFINISHED or execution.status == "cancelled"
        try:
            self.session.run(self.execution_service.cancel(ACTOR, self._read_id(execution.key)))
        except ConflictError:
            assert not allowed, f"a cancel of {execution} was rejected"
            return
        assert allowed, f"a cancel of {execution} was not rejected"
        self.model.cancel(execution)
