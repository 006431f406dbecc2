"""Example bodies of the OpenAPI document."""

from fastapi.openapi.models import Example

NEW_JOB: dict[str, Example] = {
    "http": {
        "summary": "Call a URL every Monday morning",
        "value": {
            "name": "weekly-report",
            "description": "Sends the weekly report",
            "tags": ["reports"],
            "target": {"type": "http", "method": "POST", "url": "https://example.com/report"},
            "parameters": {"action": "send_email", "recipient": "user@example.com"},
            "schedules": [
                {
                    "type": "cron",
                    "cron_expression": "0 9 * * MON",
                    "timezone": "Europe/Berlin",
                }
            ],
            "retry": {"max_attempts": 3},
            "timeout_seconds": 60,
            "overlap_policy": "skip",
            "catch_up": {"policy": "one"},
        },
    },
    "cron": {
        "summary": "Short form: cron",
        "value": {
            "name": "monday-morning",
            "schedule_type": "cron",
            "cron_expression": "0 9 * * MON",
        },
    },
    "interval": {
        "summary": "Short form: interval",
        "value": {
            "name": "every-ten-seconds",
            "schedule_type": "interval",
            "schedule_config": {"seconds": 10},
        },
    },
    "cron_from": {
        "summary": "Short form: cron with a start",
        "value": {
            "name": "from-july-on",
            "cron_expression": "0 9 * * MON",
            "start_time": "2025-07-01T09:00:00Z",
            "parameters": {"action": "send_email", "recipient": "user@example.com"},
        },
    },
    "every": {
        "summary": "Short form: a period in seconds",
        "value": {"name": "every-ten-minutes", "interval": 600},
    },
}

EDIT_JOB: dict[str, Example] = {
    "fields": {
        "summary": "Change some fields",
        "value": {"description": "Sends the report", "retry": {"max_attempts": 5}},
    },
    "period": {
        "summary": "Short form: change the period",
        "value": {"schedule_config": {"seconds": 20}},
    },
    "schedules": {
        "summary": "Replace the schedules",
        "value": {"schedules": [{"type": "interval", "interval_seconds": 3600}]},
    },
}

_OTHER_PARAMETERS: Example = {
    "summary": "With other parameters",
    "value": {"parameters": {"recipient": "somebody@example.com"}, "overlap_policy": "skip"},
}

EXECUTE: dict[str, Example] = {
    "as_it_is": {"summary": "With the job's parameters", "value": {}},
    "parameters": _OTHER_PARAMETERS,
}

RETRY: dict[str, Example] = {
    "the_same": {"summary": "With the same parameters", "value": {}},
    "parameters": _OTHER_PARAMETERS,
}

BACKFILL: dict[str, Example] = {
    "dry_run": {
        "summary": "List the slots",
        "value": {
            "start": "2026-11-01T00:00:00Z",
            "end": "2026-11-02T00:00:00Z",
            "dry_run": True,
        },
    },
}

NEW_SCHEDULE: dict[str, Example] = {
    "cron": {
        "summary": "Weekdays at nine in Berlin",
        "value": {
            "type": "cron",
            "cron_expression": "0 9 * * MON-FRI",
            "timezone": "Europe/Berlin",
        },
    },
    "interval": {
        "summary": "Every ten minutes",
        "value": {"type": "interval", "interval_seconds": 600},
    },
}

EDIT_SCHEDULE: dict[str, Example] = {
    "pause": {"summary": "Pause only this schedule", "value": {"active": False}},
    "bounds": {"summary": "Spread its executions", "value": {"jitter_seconds": 30}},
}
