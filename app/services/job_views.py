"""Jobs as the API answers them: JSON bytes, kept in Redis for a while."""

from collections.abc import Awaitable, Callable

from app.cache import Cache
from app.models.job import Job
from app.models.user import Actor
from app.schemas.etags import View
from app.schemas.jobs import JobOut, JobQuery
from app.schemas.pages import Page
from app.services.jobs import JobService

EVERYBODY = "*"


def view_of(job: Job) -> View:
    """A job as every route answers it."""
    return View.of(JobOut.of(job), job.revision)


class JobViews:
    """Reads for an actor. What users write shows at once; `next_run`, `last_run` and
    `last_status` may be as old as the cache keeps them."""

    def __init__(self, *, jobs: JobService, cache: Cache) -> None:
        self._jobs = jobs
        self._cache = cache

    async def job(self, actor: Actor, job_id: str) -> View:
        """One job. Raises NotFoundError."""

        async def read() -> View:
            return view_of(await self._jobs.get(actor, job_id))

        return await self._cached(actor, f"job:{job_id}", read)

    async def page(self, actor: Actor, query: JobQuery) -> View:
        """A page of jobs. Raises InvalidInputError for a cursor that is none."""

        async def read() -> View:
            listing = await self._jobs.list_jobs(actor, query)
            page = Page[JobOut](
                items=[JobOut.of(job) for job in listing.items], next_cursor=listing.next_cursor
            )
            return View.of(page)

        return await self._cached(actor, f"jobs:{query.model_dump_json()}", read)

    async def _cached(self, actor: Actor, key: str, read: Callable[[], Awaitable[View]]) -> View:
        found, fill = await self._cache.get(actor.visible_owner_id or EVERYBODY, key)
        if found is not None:
            etag, _, body = found.partition(b"\n")
            return View(body, etag.decode())
        answer = await read()
        await self._cache.put(fill, answer.etag.encode() + b"\n" + answer.body)
        return answer
