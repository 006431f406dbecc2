"""Hooks of the fuzzer: they insert existing ids into paths and add a check for other users' data.

The environment variable `FUZZING` has, as JSON: `ids`, lists of ids by the name of their path
parameter; `foreign`, ids that no response may contain; `status`, the only status that an operation
which needs a token may return, or null if it may return any.
"""

import json
import os
import zlib
from collections.abc import Iterator
from typing import Any

import schemathesis

_INPUT: dict[str, Any] = json.loads(os.environ["FUZZING"])
_ONE_IN = 3


@schemathesis.hook
def map_path_parameters(_: Any, given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Replace some generated ids by existing ones."""
    parameters = given or {}
    for name, value in parameters.items():
        known = _INPUT["ids"].get(name)
        digest = zlib.crc32(str(value).encode(errors="replace"))
        if known and digest % _ONE_IN == 0:
            parameters[name] = known[digest // _ONE_IN % len(known)]
    return parameters if given else given


@schemathesis.check
def no_foreign_data(_: Any, response: Any, case: Any) -> None:
    """No response contains data of another user, and without a token none contains any data."""
    if response.headers.get("content-type", [""])[0] == "application/json":
        shown = set(_list_ids(response.json()))
        assert shown.isdisjoint(_INPUT["foreign"]), f"the response shows {shown}"
    status = _INPUT["status"]
    if status is not None and case.operation.definition.raw.get("security"):
        # 404 and 405: the path or the method does not exist.
        assert response.status_code in {status, 404, 405}, f"{response.status_code}, not {status}"


def _list_ids(value: Any) -> Iterator[str]:
    match value:
        case list():
            for part in value:
                yield from _list_ids(part)
        case dict():
            for name, part in value.items():
                if name == "id" or name.endswith("_id"):
                    yield str(part)
                yield from _list_ids(part)
