"""The log target: an attempt is a line in the service's own log."""

import structlog

from app.models.execution import AttemptOutcome
from app.models.outcome import Outcome
from app.models.target import LogTargetSpec
from app.targets.envelope import build_envelope
from app.targets.target import Delivery

_log = structlog.get_logger(__name__)


class LogTarget:
    """Logs the envelope of an attempt at level info. A delivery always succeeds."""

    async def deliver(self, spec: LogTargetSpec, delivery: Delivery) -> Outcome:
        _log.info("log_target", **build_envelope(delivery))
        return Outcome(AttemptOutcome.SUCCEEDED)
