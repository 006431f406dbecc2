"""The key that signs tokens: the configured one, or one created in the data directory."""

from app.embedded.data_dir import make_folder
from app.embedded.private_files import load_secret
from app.settings import Settings


def load_secret_key(settings: Settings) -> str:
    """Return SECRET_KEY if it is set, otherwise the data directory's key, created at first use.

    Processes that create the key at the same time all get the same key. Raises
    ConfigurationError.
    """
    if settings.secret_key:
        return settings.secret_key.get_secret_value()
    path = make_folder(settings.data_dir) / "secret_key"
    return load_secret(path, effect="; all users must then sign in again")
