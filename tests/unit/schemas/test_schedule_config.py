"""`schedule_config` describes a period or a cron expression."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.schemas.schedule_config import ScheduleConfig


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        ({"hours": 1, "minutes": 30}, {"interval_seconds": 5_400}),
        ({"cron_expression": "0 9 * * MON"}, {"cron_expression": "0 9 * * MON"}),
        ({"minute": 5}, {"cron_expression": "5 * * * *"}),
        ({"hour": 9}, {"cron_expression": "0 9 * * *"}),
        ({"minute": "*/15", "hour": "9-17"}, {"cron_expression": "*/15 9-17 * * *"}),
        ({"day": "L"}, {"cron_expression": "0 0 L * *"}),
        ({"month": 1}, {"cron_expression": "0 0 1 1 *"}),
        ({"day_of_week": "FRI#2", "hour": 0}, {"cron_expression": "0 0 * * FRI#2"}),
        ({"minute": 0, "timezone": "UTC"}, {"cron_expression": "0 * * * *", "timezone": "UTC"}),
    ],
)
def test_a_config_gives_fields_of_the_full_form(
    config: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert ScheduleConfig.model_validate(config).schedule_fields() == fields


@pytest.mark.parametrize(
    "config",
    [
        *({}, {"timezone": "UTC"}, {"minutes": 0}, {"days": 366}),
        *({"minute": 0, "minutes": 5}, {"cron_expression": "0 9 * * *", "hour": 9}),
        *({"minute": 60}, {"hour": 24}, {"day": 0}, {"day": 32}, {"month": 0}, {"month": 13}),
        *({"minute": -1}, {"hour": True}, {"minute": 1.5}, {"minute": ""}),
        *({"minute": "0 9"}, {"minute": "@daily"}, {"minute": "1" * 61}, {"hour": [9]}),
        *({"day_of_week": 1}, {"day_of_week": "1-5"}, {"day_of_week": "MON,2"}),
    ],
)
def test_a_config_without_one_clear_rule_is_rejected(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScheduleConfig.model_validate(config)
