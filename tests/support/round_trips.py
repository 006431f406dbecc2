"""What a job that is sent back must leave unchanged."""

from tests.support.api import Api, JsonBody

_CHANGED_BY_EVERY_EDIT = ("revision", "updated_at")


def without_what_every_edit_changes(job: JsonBody) -> JsonBody:
    return {name: value for name, value in job.items() if name not in _CHANGED_BY_EVERY_EDIT}


async def read_stored(api: Api, job: JsonBody) -> JsonBody:
    """The stored job, without the fields that every edit changes."""
    stored: JsonBody | None = await api.database.collection("jobs").find_one({"_id": job["id"]})
    assert stored is not None
    return without_what_every_edit_changes(stored)
