"""What an edit makes of a job. Pure: the job as read and the body give the job to store."""

from collections.abc import Callable
from datetime import datetime

from app.errors import InvalidInputError
from app.models.ids import NewId
from app.models.job import Job, PauseReason, earliest_next_run
from app.models.policy import CatchUp, RetryPolicy
from app.models.schedule import Schedule
from app.models.target import HttpTargetSpec, LogTargetSpec, TargetSpec
from app.models.user import Actor
from app.schemas.jobs import JobCreate, JobUpdate
from app.schemas.targets import HttpTargetIn, TargetChange
from app.services.schedule_changes import build_schedules, completed, place_cursors

JobChange = Callable[[Job, datetime], Job]
"""What a write makes of the job as read, at the database's now."""

_PLAIN_FIELDS = (
    "name",
    "description",
    "tags",
    "parameters",
    "timeout_seconds",
    "overlap_policy",
)


def new_job(actor: Actor, body: JobCreate, *, now: datetime, new_id: NewId) -> Job:
    """The job that `body` describes, owned by the actor. Raises InvalidInputError."""
    schedules = build_schedules(body.wanted_schedules(), (), now=now, new_id=new_id)
    target: TargetSpec = LogTargetSpec()
    if isinstance(body.target, HttpTargetIn):
        target = HttpTargetSpec.model_validate(body.target.model_dump())
    job = Job(
        id=new_id(),
        owner_id=actor.user_id,
        active=body.active,
        target=target,
        retry=RetryPolicy.model_validate(body.retry.model_dump()),
        catch_up=CatchUp.model_validate(body.catch_up.model_dump()),
        created_at=now,
        updated_at=now,
        **body.model_dump(include=set(_PLAIN_FIELDS)),
    )
    return with_schedules(job, schedules, now)


def edited(job: Job, body: JobUpdate, *, now: datetime, new_id: NewId) -> Job:
    """`job` with what the body names. Raises InvalidInputError and ConflictError."""
    given = body.model_fields_set
    changes = body.model_dump(include=given & set(_PLAIN_FIELDS))
    if "retry" in given:
        retry = job.retry.model_dump() | body.retry.model_dump(exclude_unset=True)
        changes["retry"] = RetryPolicy.model_validate(retry)
    if "catch_up" in given:
        catch_up = job.catch_up.model_dump() | body.catch_up.model_dump(exclude_unset=True)
        changes["catch_up"] = CatchUp.model_validate(catch_up)
    if "target" in given:
        changes["target"] = _changed_target(job.target, body.target)
    changed = job.model_copy(update=changes)
    changed = with_schedules(changed, _described(job, body, now, new_id), now)
    if "active" not in given:
        return changed
    return resumed(changed, now) if body.active else paused(changed, now)


def resumed(job: Job, now: datetime) -> Job:
    """The job active: nothing that passed while it was paused runs."""
    if job.active:
        return job
    schedules = place_cursors(job.schedules, active=True, now=now)
    changes = {"active": True, "pause_reason": None}
    return with_schedules(job.model_copy(update=changes), schedules, now)


def paused(job: Job, now: datetime, reason: PauseReason | None = None) -> Job:
    """The job inactive, without cursors."""
    if not job.active:
        return job
    changes = {"active": False, "pause_reason": reason}
    return with_schedules(job.model_copy(update=changes), job.schedules, now)


def _described(job: Job, body: JobUpdate, now: datetime, new_id: NewId) -> tuple[Schedule, ...]:
    form = body.short_form()
    if form is not None:
        wanted = completed(form, job.schedules)
    elif "schedules" in body.model_fields_set:
        wanted = body.wanted_schedules()
    else:
        return job.schedules
    return build_schedules(wanted, job.schedules, now=now, new_id=new_id)


def with_schedules(job: Job, schedules: tuple[Schedule, ...], now: datetime) -> Job:
    """The job with these schedules; while it is inactive none has a cursor."""
    if not job.active:
        schedules = place_cursors(schedules, active=False, now=now)
    next_run = earliest_next_run(schedules, active=job.active)
    return job.model_copy(update={"schedules": schedules, "next_run": next_run})


def _changed_target(present: TargetSpec, change: TargetChange) -> TargetSpec:
    """Fields of the same type are merged; another type replaces the target."""
    kind = change.given_type or present.type
    given = change.given()
    if kind == "log":
        for field in given:
            raise InvalidInputError.at(
                f"/target/{field}", "a log target has no such field; for another, name its type"
            )
        return LogTargetSpec()
    if isinstance(present, HttpTargetSpec):
        return HttpTargetSpec.model_validate(present.model_dump() | given)
    if "url" not in given:
        raise InvalidInputError.at("/target/url", "an http target needs a url")
    return HttpTargetSpec.model_validate(given)
