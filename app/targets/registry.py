"""All targets by type: passes an attempt to the target that its job names."""

from typing import assert_never

from app.models.outcome import Outcome
from app.models.target import HttpTargetSpec, LogTargetSpec, TargetSpec
from app.targets.target import Delivery, Target


class TargetRegistry:
    """Has one instance of each target."""

    def __init__(self, *, http: Target[HttpTargetSpec], log: Target[LogTargetSpec]) -> None:
        self._http = http
        self._log = log

    async def deliver(self, spec: TargetSpec, delivery: Delivery) -> Outcome:
        """Deliver one attempt, as `Target.deliver` describes."""
        match spec:
            case HttpTargetSpec():
                return await self._http.deliver(spec, delivery)
            case LogTargetSpec():
                return await self._log.deliver(spec, delivery)
            case _:
                assert_never(spec)
