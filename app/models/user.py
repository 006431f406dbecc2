"""Users: who may sign in and whose jobs are whose."""

from datetime import datetime
from enum import StrEnum

from app.models.record import Record


class Role(StrEnum):
    """What a user may do."""

    ADMIN = "admin"
    """Everything, on everybody's jobs."""
    EDITOR = "editor"
    """Everything on the own jobs."""
    VIEWER = "viewer"
    """Read the own jobs."""


class User(Record):
    """A person or program that signs in with a name and a password."""

    id: str
    username: str
    password_hash: str
    role: Role
    active: bool = True
    tokens_valid_from: datetime
    """Tokens issued before this instant are refused."""
    created_at: datetime
    updated_at: datetime


class Actor(Record):
    """Who makes a request."""

    user_id: str
    username: str
    role: Role

    @property
    def visible_owner_id(self) -> str | None:
        """The owner whose things this actor may see; None means everybody's."""
        return None if self.role is Role.ADMIN else self.user_id


THE_SERVICE = Actor(user_id="", username="", role=Role.ADMIN)
"""What the service does of itself."""
