"""Times of the service that the faults and the invariants rely on."""

LEASE_SECONDS = 5
"""The setting of the processes in chaos runs."""

GRACE_SECONDS = 30
"""The time that a stopping process gives to running attempts."""

RESPONSE_SECONDS = 10
"""The service responds within this time, whatever fails."""

SILENT_DOMAIN = ".dns.test"
"""Names under it belong to a DNS server that does not respond."""
