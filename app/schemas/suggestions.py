"""What a request may have meant by a name that does not exist: of a field or of a time zone.

Pure functions on names.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from app.similar_names import find_nearest

_MAX_COMPARED_LENGTH = 64
"""Characters of a name that are compared; no name of the service is longer."""
_ZONE_SIMILARITY = 0.8
_OFFSET = re.compile(r"(?:utc|gmt)?[+-]\d.*", re.DOTALL)

_OPPOSITES_OF_ACTIVE = ("paused", "disabled", "is_paused", "is_disabled")

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "cron_expression": ("cron", "crontab", "cron_schedule", "cron_string", "expression"),
    "type": ("schedule_type", "kind", "trigger", "trigger_type"),
    "schedule_type": ("kind", "trigger", "trigger_type"),
    "timezone": ("tz", "time_zone", "zone"),
    "interval_seconds": ("interval", "every", "period", "frequency"),
    "interval": ("every", "period", "frequency", "interval_seconds"),
    "run_at": ("run_time", "run_date", "at", "when", "execute_at", "scheduled_at", "date"),
    "start_at": ("start", "start_time", "start_date", "starts_at", "begin"),
    "start_time": ("start", "start_at", "start_date", "starts_at", "begin"),
    "end_at": ("end", "end_time", "end_date", "ends_at", "expires_at"),
    "max_runs": ("repeat", "repeat_count", "max_executions", "count"),
    "jitter_seconds": ("jitter",),
    "retry": ("retry_config", "retry_policy"),
    "target": ("http_target",),
    "max_attempts": ("retries", "max_retries", "retry_count", "attempts", "tries"),
    "delay_seconds": ("delay", "retry_delay", "backoff_seconds"),
    "strategy": ("backoff",),
    "timeout_seconds": ("timeout", "time_limit", "deadline", "attempt_deadline"),
    "active": ("enabled", "is_active", "state", *_OPPOSITES_OF_ACTIVE),
    "overlap_policy": ("overlap", "concurrency", "concurrency_policy", "allow_overlap"),
    "catch_up": ("misfire", "misfire_policy", "backfill"),
    "parameters": ("payload", "data", "args", "kwargs", "params", "input"),
    "url": ("uri", "endpoint", "webhook", "webhook_url", "callback", "callback_url"),
    "method": ("http_method", "verb"),
    "body": ("payload", "data"),
    "success_statuses": ("success_codes", "expected_status", "expected_statuses"),
    "name": ("title", "job_name"),
    "tags": ("labels", "tag"),
    "tag": ("label", "tags"),
    "cursor": ("page", "offset", "skip", "after", "page_token", "next_cursor"),
    "limit": ("per_page", "page_size", "size", "max_results"),
    "sort": ("order", "order_by", "sort_by"),
    "q": ("search", "query", "name"),
    "job_id": ("job",),
    "status": ("state",),
    "from": ("since", "start", "after"),
    "to": ("until", "end", "before"),
    "start": ("from", "since", "start_at", "start_time"),
    "end": ("to", "until", "end_at", "end_time"),
    "id": ("schedule_id",),
}
"""For each field, what other services and people call it."""


def suggest_field(
    name: str, here: Collection[str], elsewhere: Mapping[str, str], value: Any = None
) -> str | None:
    """What was meant by the name of a field that does not exist, or None. `value` is that of the
    field.

    `here` are the fields that exist in the same object. `elsewhere` has other fields and how to
    name them. A synonym takes precedence over a similar name; the latter must be in `here`.
    """
    wanted = name[:_MAX_COMPARED_LENGTH].lower().replace("-", "_")
    shown = {field: f"`{field}`" for field in here}
    if wanted == "schedule" and isinstance(value, str) and "cron_expression" in shown:
        return shown["cron_expression"]
    compact = wanted.replace("_", "")
    for field, text in (*shown.items(), *elsewhere.items()):
        if compact in {known.replace("_", "") for known in (field, *_SYNONYMS.get(field, ()))}:
            is_opposite = field == "active" and compact.removeprefix("is") in _OPPOSITES_OF_ACTIVE
            return f"{text}, with the opposite value" if is_opposite else text
    nearest = find_nearest(wanted, here)
    return None if nearest is None else shown[nearest]


def find_synonym(field: str, names: Collection[str]) -> str | None:
    """The first synonym of an existing field that is among the names, or None."""
    return next((synonym for synonym in _SYNONYMS.get(field, ()) if synonym in names), None)


def advise_on_zone(name: str, zones: frozenset[str]) -> str:
    """What to send instead of the name of a time zone that does not exist."""
    wanted = name[:_MAX_COMPARED_LENGTH].lower().replace(" ", "_")
    if _OFFSET.fullmatch(wanted):
        return "an offset from UTC is written with the opposite sign: Etc/GMT-1 is UTC+01:00"
    known = _list_known_zones(zones)
    nearest = wanted if wanted in known else None
    if nearest is None and "/" in wanted:
        nearest = find_nearest(wanted, [n for n in known if "/" in n], _ZONE_SIMILARITY)
    if nearest is None:
        return "send a name such as Europe/Berlin"
    return f"did you mean {known[nearest]}?"


@lru_cache(maxsize=1)
def _list_known_zones(zones: frozenset[str]) -> dict[str, str]:
    """The zones by their names and by the last parts of these, in small letters. Of zones with the
    same last part, the one with the shortest name counts."""
    by_length = sorted(zones, key=lambda zone: (-len(zone), zone))
    cities = {zone.rpartition("/")[2].lower(): zone for zone in by_length}
    return cities | {zone.lower(): zone for zone in zones}
