"""Response bodies of jobs, cached in Redis."""

from collections.abc import Awaitable, Callable

from app.cache import ALL_OWNERS, Cache
from app.models.job import Job
from app.models.user import Actor
from app.schemas.jobs import JobQuery
from app.schemas.response_bodies import ResponseBody, job_body, job_page_body
from app.services.jobs import JobService


class CachedJobs:
    """Reads jobs for an actor.

    A user's change shows immediately, unless Redis failed at the change: then other processes may
    show the old job until the cache entry expires. What the engine changes (`next_run`, `last_run`,
    `last_status` and `runs`) shows within three seconds, and after a crash or a failure of Redis
    when the cache entry expires.
    """

    def __init__(self, *, jobs: JobService, cache: Cache, max_timeout_seconds: float) -> None:
        self._jobs = jobs
        self._cache = cache
        self._max_timeout_seconds = max_timeout_seconds

    def make_body(self, job: Job) -> ResponseBody:
        """The response body of a job that was read or written now."""
        return job_body(job, max_timeout_seconds=self._max_timeout_seconds)

    async def get_job(self, actor: Actor, job_id: str) -> ResponseBody:
        """One job. Raises NotFoundError."""

        async def read() -> ResponseBody:
            return self.make_body(await self._jobs.get(actor, job_id))

        return await self._get_or_read(actor, f"job:{job_id}", read)

    async def list_jobs(self, actor: Actor, query: JobQuery) -> ResponseBody:
        """A page of jobs. Raises InvalidInputError for an invalid cursor."""

        async def read() -> ResponseBody:
            listing = await self._jobs.list_jobs(actor, query)
            return await job_page_body(
                listing, query.fields, max_timeout_seconds=self._max_timeout_seconds
            )

        return await self._get_or_read(actor, f"jobs:{query.model_dump_json()}", read)

    async def _get_or_read(
        self, actor: Actor, key: str, read: Callable[[], Awaitable[ResponseBody]]
    ) -> ResponseBody:
        """The cached body, else what `read` returns. An entry is the entity tag, a line break and
        the content."""
        entry, pending = await self._cache.find(actor.visible_owner_id or ALL_OWNERS, key)
        if entry is not None:
            etag, _, content = entry.partition(b"\n")
            return ResponseBody(content, etag.decode() or None)
        body = await read()
        await self._cache.put(pending, (body.etag or "").encode() + b"\n" + body.content)
        return body
