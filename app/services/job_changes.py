"""Pure functions that build the job to store from the stored job and a request body."""

from collections.abc import Callable, Mapping
from datetime import datetime

from app.errors import InvalidInputError
from app.models.ids import NewId
from app.models.job import Job, PauseReason, earliest_next_run
from app.models.policy import CatchUpPolicy, RetryPolicy
from app.models.schedule import Schedule, first_slot
from app.models.target import HttpTargetSpec, LogTargetSpec, TargetSpec
from app.models.user import Actor
from app.receiver_addresses import AddressPolicy
from app.schemas.jobs import JobCreate, JobUpdate
from app.schemas.schedules_to_write import read_job_schedules
from app.schemas.target_rules import read_host
from app.schemas.targets import HttpTargetIn, TargetChange
from app.services.schedule_changes import build_schedules, set_next_runs

JobChange = Callable[[Job, datetime], Job]
"""Returns the job to store, from the job as read and the database's now."""

_PLAIN_FIELDS = (
    "name",
    "description",
    "tags",
    "parameters",
    "timeout_seconds",
    "overlap_policy",
)


def build_job(actor: Actor, body: JobCreate, *, now: datetime, new_id: NewId) -> Job:
    """The job that `body` describes, owned by the actor. Raises InvalidInputError."""
    to_write = read_job_schedules(body, ()) or []
    schedules = build_schedules(to_write, (), now=now, new_id=new_id)
    target: TargetSpec = LogTargetSpec()
    if isinstance(body.target, HttpTargetIn):
        target = HttpTargetSpec.model_validate(body.target.model_dump())
    job = Job(
        id=new_id(),
        owner_id=actor.user_id,
        active=body.active,
        target=target,
        retry=RetryPolicy.model_validate(body.retry.model_dump()),
        catch_up=CatchUpPolicy.model_validate(body.catch_up.model_dump()),
        created_at=now,
        updated_at=now,
        **body.model_dump(include=set(_PLAIN_FIELDS)),
    )
    return replace_schedules(job, schedules, now)


def edit(job: Job, body: JobUpdate, *, now: datetime, new_id: NewId) -> Job:
    """The job with the fields that the body names. Raises InvalidInputError and ConflictError."""
    given = body.model_fields_set
    changes = body.model_dump(include=given & set(_PLAIN_FIELDS))
    if "retry" in given:
        retry = job.retry.model_dump() | body.retry.model_dump(exclude_unset=True)
        changes["retry"] = RetryPolicy.model_validate(retry)
    if "catch_up" in given:
        catch_up = job.catch_up.model_dump() | body.catch_up.model_dump(exclude_unset=True)
        changes["catch_up"] = CatchUpPolicy.model_validate(catch_up)
    if "target" in given:
        changes["target"] = _change_target(job.target, body.target)
    changed = job.model_copy(update=changes)
    to_write = read_job_schedules(body, job.schedules)
    schedules = job.schedules
    if to_write is not None:
        schedules = build_schedules(to_write, job.schedules, now=now, new_id=new_id)
    changed = replace_schedules(changed, schedules, now)
    if "active" not in given:
        return changed
    return resume(changed, now) if body.active else pause(changed, now)


def check_timeout(job: Job, most_seconds: float, *, before: Job | None = None) -> None:
    """Raise InvalidInputError for a timeout above the limit of the service, unless an edit leaves
    it as it was `before`: the job may have been saved under a higher limit."""
    is_changed = before is None or before.timeout_seconds != job.timeout_seconds
    if is_changed and job.timeout_seconds > most_seconds:
        raise InvalidInputError.at(
            "/timeout_seconds",
            f"send at most {most_seconds:g} seconds, the limit of this service"
            " (MAX_TIMEOUT_SECONDS)",
        )


def check_target(job: Job, addresses: AddressPolicy, *, before: Job | None = None) -> None:
    """Raise InvalidInputError for a URL with an address that the service does not connect to,
    unless an edit leaves the URL as it was `before`: the settings may have changed since."""
    url = _url_of(job)
    if url is None or (before is not None and url == _url_of(before)):
        return
    denial = addresses.explain_denied_host(read_host(url))
    if denial is not None:
        raise InvalidInputError.at("/target/url", denial)


def _url_of(job: Job) -> str | None:
    return job.target.url if isinstance(job.target, HttpTargetSpec) else None


def resume(job: Job, now: datetime) -> Job:
    """Return the job as active. Slots that passed while it was paused are not executed."""
    if job.active:
        return job
    schedules = set_next_runs(job.schedules, active=True, now=now)
    changes = {"active": True, "pause_reason": None}
    return replace_schedules(job.model_copy(update=changes), schedules, now)


def pause(job: Job, now: datetime, reason: PauseReason | None = None) -> Job:
    """Return the job as inactive, without `next_run`."""
    if not job.active:
        return job
    changes = {"active": False, "pause_reason": reason}
    return replace_schedules(job.model_copy(update=changes), job.schedules, now)


def raise_hops(job: Job, hops: int) -> Job:
    """The job with at least the hops of a request that edits it. Its executions inherit them."""
    return job.model_copy(update={"hops": max(hops, job.hops)})


def replace_schedules(job: Job, schedules: tuple[Schedule, ...], now: datetime) -> Job:
    """The job with these schedules. In an inactive job no schedule has a `next_run`."""
    if not job.active:
        schedules = set_next_runs(schedules, active=False, now=now)
    next_run = earliest_next_run(schedules, active=job.active)
    return job.model_copy(update={"schedules": schedules, "next_run": next_run})


def start_after(job: Job, decided: Mapping[str, datetime]) -> Job:
    """Return the job without a `next_run` at or before the decided slot of the schedule."""
    schedules = tuple(
        s.model_copy(update={"next_run": first_slot(s, decided[s.id])})
        if s.next_run is not None and s.id in decided and s.next_run <= decided[s.id]
        else s
        for s in job.schedules
    )
    next_run = earliest_next_run(schedules, active=job.active)
    return job.model_copy(update={"schedules": schedules, "next_run": next_run})


def _change_target(present: TargetSpec, change: TargetChange) -> TargetSpec:
    """Merge the fields of a target of the same type; another type replaces the target."""
    kind = change.given_type or present.type
    given = change.given_fields()
    if kind == "log":
        for field in given:
            raise InvalidInputError.at(
                f"/target/{field}",
                "a log target does not have this field; set type to http to change the target",
            )
        return LogTargetSpec()
    if isinstance(present, HttpTargetSpec):
        return HttpTargetSpec.model_validate(present.model_dump() | given)
    if "url" not in given:
        raise InvalidInputError.at("/target/url", "an http target requires a url")
    return HttpTargetSpec.model_validate(given)
