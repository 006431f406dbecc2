"""A line of the log target has at most 2 KB of parameters."""

from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from app.models.target import LogTargetSpec
from app.targets.log import MAX_LOGGED_BYTES, LogTarget
from tests.support.deliveries import make_delivery


async def log(parameters: dict[str, Any]) -> dict[str, Any]:
    """Deliver these parameters and return the line."""
    with capture_logs() as lines:
        await LogTarget().deliver(LogTargetSpec(), make_delivery(parameters=parameters))
    (line,) = lines
    return dict(line)


async def test_small_parameters_are_logged_as_they_are() -> None:
    largest = {"a": "x" * (MAX_LOGGED_BYTES - len(orjson.dumps({"a": ""})))}
    line = await log(largest)
    assert line["parameters"] == largest
    assert "parameters_truncated" not in line


@pytest.mark.parametrize("character", ["x", "é", "€", "😀", '"'])
async def test_of_large_parameters_the_first_2_kb_of_their_json_are_logged(character: str) -> None:
    parameters = {"a": character * 100_000, "b": ["x" * 1_000] * 100}
    line = await log(parameters)
    assert MAX_LOGGED_BYTES - 3 <= len(line["parameters"].encode()) <= MAX_LOGGED_BYTES
    assert orjson.dumps(parameters).decode().startswith(line["parameters"])
    assert line["parameters_truncated"] is True


async def test_the_sum_of_many_small_parameters_counts() -> None:
    line = await log({str(number): number for number in range(10_000)})
    assert len(orjson.dumps(line)) < 3_000
