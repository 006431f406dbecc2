"""The log target: an attempt is a line in the service's own log."""

from typing import Any

import orjson
import structlog

from app.models.execution import AttemptOutcome
from app.models.outcome import Outcome
from app.models.target import LogTargetSpec
from app.targets.envelope import build_envelope
from app.targets.target import Delivery

_log = structlog.get_logger(__name__)

MAX_LOGGED_BYTES = 2_048
"""The most bytes of parameters in a line."""


class LogTarget:
    """Logs the envelope of an attempt at level info. A delivery always succeeds."""

    async def deliver(self, spec: LogTargetSpec, delivery: Delivery) -> Outcome:
        _log.info("log_target", **_shorten(build_envelope(delivery)))
        return Outcome(AttemptOutcome.SUCCEEDED)


def _shorten(envelope: dict[str, Any]) -> dict[str, Any]:
    """Replace parameters that are too large by the beginning of their JSON."""
    parameters = orjson.dumps(envelope["parameters"])
    if len(parameters) <= MAX_LOGGED_BYTES:
        return envelope
    beginning = parameters[:MAX_LOGGED_BYTES].decode("utf-8", "ignore")
    return envelope | {"parameters": beginning, "parameters_truncated": True}
