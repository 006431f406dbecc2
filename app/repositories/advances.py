"""Advances of `next_run`, in chunks that fit into one statement."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bson

from app.models.job import Job

_MAX_JOBS = 500  # `pick` searches the list of ids for each document
_MAX_BYTES = 4_000_000
"""The size of the schedules in one statement, which MongoDB limits to 16 MB."""


@dataclass(frozen=True, slots=True)
class Advance:
    """A job as it was read, and what is to be stored."""

    seen: Job
    next_run: datetime | None
    schedules: list[dict[str, Any]]


def split_by_size(advances: Sequence[tuple[Job, Job]]) -> Iterator[list[Advance]]:
    """Yield the advances (seen, advanced) in chunks whose statements are small enough."""
    chunk: list[Advance] = []
    size = 0
    for seen, advanced in advances:
        schedules = [schedule.model_dump() for schedule in advanced.schedules]
        own_size = len(bson.encode({"schedules": schedules}))
        if chunk and (size + own_size > _MAX_BYTES or len(chunk) == _MAX_JOBS):
            yield chunk
            chunk, size = [], 0
        chunk.append(Advance(seen, advanced.next_run, schedules))
        size += own_size
    if chunk:
        yield chunk
