"""The JSON examples of docs/jobs.md and docs/schedules.md are accepted by the API."""

import json
import re

import httpx2
import pytest

from tests.support.api import create_job
from tests.support.documents import DOCS, JsonExample, read_json_examples

EXAMPLES = [
    pytest.param(example, id=f"{page} {number}")
    for page in ("jobs.md", "schedules.md")
    for number, example in enumerate(read_json_examples(DOCS / page))
]


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_gets_the_status_that_is_written_before_it(
    alice: httpx2.AsyncClient, example: JsonExample
) -> None:
    call = re.fullmatch(r"(\w+) (\S+): (\d+)", example.call or "")
    assert call is not None, example
    method, path, status = call.groups()
    job = await create_job(alice, target={"type": "log"})
    response = await alice.request(method, path.format(id=job["id"]), json=json.loads(example.body))
    assert response.status_code == int(status), response.text


def test_every_page_has_examples() -> None:
    assert len(EXAMPLES) >= 10
