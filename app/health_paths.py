"""The paths of the health checks."""

HEALTH_PATHS = frozenset({"/ping", "/health", "/health/live", "/health/ready"})
"""Every process serves these paths. Requests for them wait only for each other's turns (see
`LoopTurns`)."""
