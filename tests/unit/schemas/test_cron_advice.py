"""An expression with a period or a time zone is answered with the field that has it."""

import pytest
from pydantic import TypeAdapter, ValidationError

from app.schemas.schedules import ScheduleIn


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("@every 90s", '`"interval": "90s"`'),
        ("@every 90s", '"interval_seconds": 90`'),
        ("@Every 1h30m", '"interval_seconds": 5400`'),
        ("@every 5 parsecs", "send `interval`, such as 90s"),
        ("@every " + "1" * 100, "send `interval`, such as 90s"),
        ("0 9 * * * Europe/Berlin", '`"timezone": "Europe/Berlin"`'),
        ("0 9 * * * America/New_York", '`"timezone": "America/New_York"`'),
        ("0 9 * * * UTC", '`"timezone": "UTC"`'),
        ("CRON_TZ=Asia/Tokyo 0 9 * * *", '`"timezone": "Asia/Tokyo"`'),
        ("TZ=nowhere 0 9 * * *", "as `timezone`, such as Europe/Berlin"),
        ("0 9 * * * Europe/Berln", "as `timezone`, such as Europe/Berlin"),
        ("0 0 1 1 * 2027", "bound the schedule by `start_at` and `end_at`"),
        ("0 9 * * * */5", 'send `"seconds": true`'),
    ],
)
def test_an_expression_of_another_program_is_told_what_to_send(expression: str, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(ScheduleIn).validate_python({"type": "cron", "cron_expression": expression})
    (error,) = caught.value.errors()
    assert text in error["msg"]
