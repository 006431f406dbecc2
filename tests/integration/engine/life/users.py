"""What users do: create, change and delete jobs, request executions and cancel them."""

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
from tests.integration.engine.life.laws import Window
from tests.integration.engine.life.records import Execution, Job, Rule, Schedule
from tests.support.changes import Document
from tests.support.history import LIVE

MOST_JOBS = 2
ACTOR = Actor(user_id="owner", username="owner", role=Role.EDITOR)
DESCRIBED = {
    "id",
    "type",
    "max_runs",
    "jitter_seconds",
    "interval_seconds",
    "run_at",
    "cron_expression",
}

policies = st.sampled_from([policy.value for policy in OverlapPolicy])
manual_policies = st.sampled_from(["allow_all", *(policy.value for policy in OverlapPolicy)])


def _rule(body: Document, now: datetime) -> Rule:
    match body["type"]:
        case "interval":
            return Rule("interval", now, timedelta(seconds=body["interval_seconds"]))
        case "cron":
            minutes = int(body["cron_expression"].removeprefix("*/").split()[0])
            return Rule("cron", now, timedelta(minutes=minutes))
        case _:
            return Rule("one_time", datetime.fromisoformat(body["run_at"]))


def _jitter(body: Document) -> timedelta:
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
    """They have at most two jobs at a time."""

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
        job = Job(
            stored.id,
            policy=stored.overlap_policy.value,
            catch_up=stored.catch_up.policy.value,
            window=stored.catch_up.window,
            max_attempts=stored.retry.max_attempts,
            delay=stored.retry.delay,
            schedules=[
                Schedule(s.id, _rule(body, now), body.get("max_runs"), _jitter(body))
                for s, body in zip(stored.schedules, schedules, strict=True)
            ],
        )
        self.model.create(job)
        self.most_attempts[job.id] = job.max_attempts
        self._open(job)

    def _open(self, job: Job) -> None:
        """From now on the slots of the job's schedules must be recorded."""
        for schedule in job.schedules:
            self._open_one(job, schedule)

    def _open_one(self, job: Job, schedule: Schedule) -> None:
        if job.active:
            rule, now = deepcopy(schedule.rule), self.world.clock.now()
            self.expected_slots.open(Window(schedule.id, rule, now, max_runs=schedule.max_runs))

    def _close(self, job: Job) -> None:
        for schedule in job.schedules:
            self.expected_slots.close(schedule.id, self.world.clock.now())

    def _some_job(self, pick: int) -> Job:
        jobs = list(self.model.jobs.values())
        return jobs[pick % len(jobs)]

    def _some_execution(self, pick: int, *, live: bool) -> Execution:
        """Prefers new ones, and usually those that are `live`, or that are not."""
        executions = list(self.model.executions.values())
        likely = [e for e in executions if (e.status in LIVE) is live]
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
        job = self._some_job(pick)
        if not job.active:
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
                self._close(job)
            case "resume":
                self.session.run(self.jobs.resume(ACTOR, job.id))
                if not job.active:
                    self.model.resume(job)
                    self._open(job)
            case "delete":
                self.session.run(self.jobs.delete(ACTOR, job.id))
                self.model.delete(job)
                self._close(job)

    def _change_period(self, pick: int, seconds: int) -> None:
        """Change an interval schedule; the request repeats the job's other schedules unchanged."""
        schedules = [
            (job, i) for job in self.model.jobs.values() for i in range(len(job.schedules))
        ]
        schedules = [(job, i) for job, i in schedules if job.schedules[i].rule.type == "interval"]
        if not schedules:
            return
        job, index = schedules[pick % len(schedules)]
        stored = self.session.run(self.jobs.get(ACTOR, job.id))
        wanted = [s.model_dump(include=DESCRIBED, mode="json") for s in stored.schedules]
        wanted[index]["interval_seconds"] = seconds
        body = JobUpdate.model_validate({"schedules": wanted})
        self.session.run(self.jobs.edit(ACTOR, job.id, body))
        changes = job.schedules[index].rule.period != timedelta(seconds=seconds)
        self.model.set_period(job, index, timedelta(seconds=seconds))
        if changes:
            self.expected_slots.close(job.schedules[index].id, self.world.clock.now())
            self._open_one(job, job.schedules[index])

    @precondition(lambda self: self.model.jobs)
    @rule(pick=picks, policy=manual_policies)
    def execute(self, pick: int, policy: str) -> None:
        job = self._some_job(pick)
        call = self.requests.execute(ACTOR, job.id, overlap_policy=OverlapPolicy(policy))
        new = self.session.run(call)
        self.model.run(new.id, job, policy, self.model.now)

    @precondition(lambda self: self.model.executions)
    @rule(pick=picks, policy=manual_policies)
    def retry(self, pick: int, policy: str) -> None:
        execution = self._some_execution(pick, live=False)
        job = self.model.jobs.get(execution.job_id)
        several = execution.missed is not None and execution.missed[1] > 1
        allowed = execution.status not in LIVE and not several and job is not None
        call = self.requests.retry(
            ACTOR, self._id(execution.key), overlap_policy=OverlapPolicy(policy)
        )
        try:
            new = self.session.run(call)
        except ConflictError:
            assert not allowed, f"a retry of {execution} was refused"
            return
        assert allowed, f"a retry of {execution} was not refused"
        assert job is not None
        self.model.run(new.id, job, policy, execution.slot)

    @precondition(lambda self: self.model.executions)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        execution = self._some_execution(pick, live=True)
        allowed = execution.status in LIVE or execution.status == "cancelled"
        try:
            self.session.run(self.requests.cancel(ACTOR, self._id(execution.key)))
        except ConflictError:
            assert not allowed, f"a cancel of {execution} was refused"
            return
        assert allowed, f"a cancel of {execution} was not refused"
        self.model.cancel(execution)
