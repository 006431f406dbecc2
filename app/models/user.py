"""Users, their roles, and the actor of a request."""

from enum import StrEnum

from app.models.record import Instant, Record


class Role(StrEnum):
    """What a user may do."""

    ADMIN = "admin"
    """Read and change all jobs."""
    EDITOR = "editor"
    """Read and change their own jobs."""
    VIEWER = "viewer"
    """Read their own jobs."""


class User(Record):
    """A person or program that signs in with a name and a password."""

    id: str
    username: str
    password_hash: str
    role: Role
    active: bool = True
    tokens_valid_from: Instant
    """Tokens issued before this instant are rejected."""
    created_at: Instant
    updated_at: Instant


class Actor(Record):
    """The user who makes a request, or the service itself."""

    user_id: str
    username: str
    role: Role

    @property
    def visible_owner_id(self) -> str | None:
        """The only owner whose jobs and executions this actor may see; None means all owners."""
        return None if self.role is Role.ADMIN else self.user_id


THE_SERVICE = Actor(user_id="", username="", role=Role.ADMIN)
"""The actor of changes that the service makes itself."""
