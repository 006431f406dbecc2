"""Every index, and the query or the rule that it is for."""

from pymongo import ASCENDING, DESCENDING, IndexModel, timeout
from pymongo.errors import OperationFailure

from app.models.execution import ExecutionKind, ExecutionStatus
from app.repositories.due_jobs import IS_SCHEDULED, POLL
from app.repositories.mongo import Collection, Database, database_call

_QUEUED, _RUNNING = ExecutionStatus.QUEUED.value, ExecutionStatus.RUNNING.value
_INDEX_NOT_FOUND = 27
_HAS_RESPONSES = {"response_bytes": {"$gt": 0}}

INDEXES: dict[str, list[IndexModel]] = {
    "jobs": [
        # Finds the job of a schedule id.
        IndexModel([("schedules.id", ASCENDING)], name="by_schedule"),
        # The poll. With `$exists` instead of `$type` a null `next_run` would count as due.
        IndexModel(
            [("next_run", ASCENDING), ("owner_id", ASCENDING), ("_id", ASCENDING)],
            name=POLL,
            partialFilterExpression={"next_run": IS_SCHEDULED},
        ),
        # The listings. A listing's query names its index (see job_listings.py), so that it is one
        # range in the order of the listing. Other filters scan this range, which is at most all
        # jobs of the owner. They have no index, because fields such as `last_status` change at
        # each execution, and each change would also write the index.
        IndexModel([("owner_id", ASCENDING), ("_id", DESCENDING)], name="by_owner"),
        IndexModel(
            [("owner_id", ASCENDING), ("tags", ASCENDING), ("_id", DESCENDING)],
            name="by_owner_and_tag",
        ),
        IndexModel(
            [("owner_id", ASCENDING), ("folded_name", ASCENDING), ("_id", ASCENDING)],
            name="by_owner_and_name",
        ),
        # The listings of an admin, across all owners.
        IndexModel([("tags", ASCENDING), ("_id", DESCENDING)], name="by_tag"),
        IndexModel([("folded_name", ASCENDING), ("_id", ASCENDING)], name="by_name"),
    ],
    "executions": [
        # One record per slot of a schedule.
        IndexModel(
            [("schedule_id", ASCENDING), ("scheduled_for", ASCENDING)],
            name="slot",
            unique=True,
            partialFilterExpression={"kind": ExecutionKind.SCHEDULED.value},
        ),
        # One record per slot of a backfill.
        IndexModel(
            [
                ("backfill_id", ASCENDING),
                ("schedule_id", ASCENDING),
                ("scheduled_for", ASCENDING),
            ],
            name="backfill_slot",
            unique=True,
            partialFilterExpression={"kind": ExecutionKind.BACKFILL.value},
        ),
        # At most one live execution per job (see overlaps.py).
        IndexModel(
            [("live_for", ASCENDING)],
            name="live",
            unique=True,
            partialFilterExpression={"live_for": {"$exists": True}},
        ),
        # One waiting execution per position.
        IndexModel(
            [("job_id", ASCENDING), ("place", ASCENDING)],
            name="place",
            unique=True,
            partialFilterExpression={"place": {"$exists": True}},
        ),
        # The claims of the workers: whose executions are due, and the earliest of an owner.
        IndexModel(
            [
                ("status", ASCENDING),
                ("waiting", ASCENDING),
                ("owner_id", ASCENDING),
                ("run_at", ASCENDING),
            ],
            name="claimable_by_owner",
            partialFilterExpression={"status": _QUEUED},
        ),
        # The jobs with waiting executions, and the one with the earliest slot of each. Other
        # executions are not in it, so their writes cost nothing.
        IndexModel(
            [
                ("status", ASCENDING),
                ("waiting", ASCENDING),
                ("job_id", ASCENDING),
                ("scheduled_for", ASCENDING),
                ("_id", ASCENDING),
            ],
            name="waiting",
            partialFilterExpression={"status": _QUEUED, "waiting": True},
        ),
        # Expired leases, for the reaper.
        IndexModel(
            [("status", ASCENDING), ("lease_until", ASCENDING)],
            name="expiry",
            partialFilterExpression={"status": _RUNNING},
        ),
        # The queued and running executions of a job, live or not: a deleted job cancels them.
        IndexModel(
            [("job_id", ASCENDING), ("status", ASCENDING)],
            name="live_by_job",
            partialFilterExpression={"status": {"$in": [_QUEUED, _RUNNING]}},
        ),
        # The stored responses, newest first: `stored_responses.py` reads only index keys. Few
        # executions are in these two indexes, because the responses of older ones are removed.
        IndexModel(
            [
                ("job_id", ASCENDING),
                ("finished_at", DESCENDING),
                ("_id", DESCENDING),
                ("status", ASCENDING),
                ("response_bytes", ASCENDING),
            ],
            name="responses_by_job",
            partialFilterExpression=_HAS_RESPONSES,
        ),
        IndexModel(
            [("owner_id", ASCENDING), ("response_bytes", ASCENDING)],
            name="responses_by_owner",
            partialFilterExpression=_HAS_RESPONSES,
        ),
        # Retention.
        IndexModel(
            [("finished_at", ASCENDING), ("_id", ASCENDING)],
            name="finished",
            partialFilterExpression={"finished_at": {"$type": "date"}},
        ),
        IndexModel(
            [("job_id", ASCENDING), ("scheduled_for", DESCENDING), ("_id", DESCENDING)],
            name="history_by_job",
        ),
        IndexModel(
            [("owner_id", ASCENDING), ("scheduled_for", DESCENDING), ("_id", DESCENDING)],
            name="history_by_owner",
        ),
        # The listing of an admin.
        IndexModel(
            [("scheduled_for", DESCENDING), ("_id", DESCENDING)],
            name="history",
        ),
        # A few failed executions among many others. The history of one job needs no such index: it
        # is bounded by retention, and the index would be written at every change of status.
        IndexModel(
            [
                ("owner_id", ASCENDING),
                ("status", ASCENDING),
                ("scheduled_for", DESCENDING),
                ("_id", DESCENDING),
            ],
            name="history_by_owner_and_status",
        ),
    ],
    "job_revisions": [
        # The size of an owner's records, read from index keys only, and the oldest of them.
        IndexModel(
            [("owner_id", ASCENDING), ("replaced_at", ASCENDING), ("bytes", ASCENDING)],
            name="by_owner",
        ),
    ],
    "idempotency_keys": [
        IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
    ],
    "users": [
        IndexModel([("username", ASCENDING)], name="username", unique=True),
    ],
}


RETIRED: dict[str, list[str]] = {"executions": ["claim", "claimable"], "jobs": ["poll"]}
"""Indexes of earlier releases. An index that changes gets another name, because MongoDB
rejects an index whose name exists with other keys."""


@database_call
async def create_indexes(database: Database) -> None:
    """Create the missing indexes. Several processes may do it at the same time.

    The call has no time limit: the server stops a build at the limit, so an index that takes longer
    would never be built.
    """
    with timeout(None):
        for name, indexes in INDEXES.items():
            await database.collection(name).create_indexes(indexes)


@database_call
async def drop_retired_indexes(database: Database) -> None:
    """Drop the indexes of earlier releases. Several processes may call this at the same time."""
    for collection, names in RETIRED.items():
        for name in names:
            await _drop(database.collection(collection), name)


async def _drop(collection: Collection, name: str) -> None:
    try:
        await collection.drop_index(name)
    except OperationFailure as error:
        if error.code != _INDEX_NOT_FOUND:
            raise
