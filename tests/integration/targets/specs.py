"""Specs of http targets."""

from typing import Any

from app.models.target import HttpTargetSpec
from tests.support.receiver import RawReceiver, Receiver


def make_spec(
    receiver: Receiver | RawReceiver, path: str = "/hook", **fields: Any
) -> HttpTargetSpec:
    return HttpTargetSpec(url=f"{receiver.url}{path}", **fields)
