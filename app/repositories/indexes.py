"""Every index, and what it is for."""

from pymongo import ASCENDING, DESCENDING, IndexModel

from app.repositories.mongo import Database, database_call

INDEXES: dict[str, list[IndexModel]] = {
    "jobs": [
        IndexModel([("schedules.id", ASCENDING)], name="by_schedule"),
        # The poll. With `$exists` instead of `$type` a null cursor would count as due.
        IndexModel(
            [("next_run", ASCENDING)],
            name="poll",
            partialFilterExpression={"next_run": {"$type": "date"}},
        ),
        # The listings. A listing names its index (see jobs.py), so each is one range in the
        # listing's own order. Other filters look through that range, at most the owner's jobs:
        # an index on what firings and finishes change would cost each of them a write.
        IndexModel([("owner_id", ASCENDING), ("_id", DESCENDING)], name="by_owner"),
        IndexModel(
            [("owner_id", ASCENDING), ("tags", ASCENDING), ("_id", DESCENDING)],
            name="by_owner_and_tag",
        ),
        IndexModel(
            [("owner_id", ASCENDING), ("folded_name", ASCENDING), ("_id", ASCENDING)],
            name="by_owner_and_name",
        ),
        # Of an admin, who sees everybody's.
        IndexModel([("tags", ASCENDING), ("_id", DESCENDING)], name="by_tag"),
        IndexModel([("folded_name", ASCENDING), ("_id", ASCENDING)], name="by_name"),
    ],
    "executions": [
        # A slot is one record.
        IndexModel(
            [("schedule_id", ASCENDING), ("scheduled_for", ASCENDING)],
            name="slot",
            unique=True,
            partialFilterExpression={"kind": "scheduled"},
        ),
        IndexModel(
            [
                ("backfill_id", ASCENDING),
                ("schedule_id", ASCENDING),
                ("scheduled_for", ASCENDING),
            ],
            name="backfill_slot",
            unique=True,
            partialFilterExpression={"kind": "backfill"},
        ),
        # Of a job's executions not born under allow_all, one is live.
        IndexModel(
            [("live_for", ASCENDING)],
            name="live",
            unique=True,
            partialFilterExpression={"live_for": {"$exists": True}},
        ),
        IndexModel(
            [("job_id", ASCENDING), ("place", ASCENDING)],
            name="place",
            unique=True,
            partialFilterExpression={"place": {"$exists": True}},
        ),
        IndexModel(
            [("status", ASCENDING), ("held", ASCENDING), ("run_at", ASCENDING)],
            name="claim",
            partialFilterExpression={"status": "queued"},
        ),
        IndexModel(
            [("status", ASCENDING), ("lease_until", ASCENDING)],
            name="expiry",
            partialFilterExpression={"status": "running"},
        ),
        IndexModel(
            [("job_id", ASCENDING), ("status", ASCENDING)],
            name="live_by_job",
            partialFilterExpression={"status": {"$in": ["queued", "running"]}},
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
        # An admin's.
        IndexModel(
            [("scheduled_for", DESCENDING), ("_id", DESCENDING)],
            name="history",
        ),
        # What failed lately, among many that did not. A job's own history needs none: it is
        # bounded by retention, and the index would be written at every change of status.
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
    "idempotency_keys": [
        IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
    ],
    "users": [
        IndexModel([("username", ASCENDING)], name="username", unique=True),
    ],
}


@database_call
async def create_indexes(database: Database) -> None:
    """Create what is missing. Several processes may do it at once."""
    for name, indexes in INDEXES.items():
        await database.collection(name).create_indexes(indexes)
