"""The definition of an earlier revision of a job, as far as responses show it."""

from typing import Annotated, Any, NamedTuple, Self

from pydantic import Strict

from app.models.job import Job
from app.models.record import Instant, Record


class RevisionKey(NamedTuple):
    """Names one revision of one job."""

    job_id: str
    revision: int

    @property
    def id(self) -> str:
        """The id of its record. The records of a job are neighbours in the order of ids."""
        return f"{self.job_id}:{self.revision:016d}"


class JobRevision(Record):
    """What attempts of this revision have sent. It has no target, whose headers may be secret.

    The present revision of a job has no record: the job itself has its parameters. An edit or a
    deletion stores the record before it replaces that revision.
    """

    id: str
    job_id: str
    owner_id: str
    revision: Annotated[int, Strict()]
    parameters: dict[str, Any]
    replaced_at: Instant
    """When the newest edit or deletion that was to replace it began."""

    @classmethod
    def of(cls, job: Job, replaced_at: Instant) -> Self:
        return cls(
            id=RevisionKey(job.id, job.revision).id,
            job_id=job.id,
            owner_id=job.owner_id,
            revision=job.revision,
            parameters=job.parameters,
            replaced_at=replaced_at,
        )
