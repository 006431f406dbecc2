"""The paths of the health checks."""

HEALTH_PATHS = frozenset({"/ping", "/health", "/health/live", "/health/ready"})
"""Every process serves these paths. Requests for them wait in a line of their own, which has every
second turn (see `LoopTurns`)."""
