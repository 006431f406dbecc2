"""The key that signs tokens: the configured one, or one created in the data directory."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from app.embedded.data_dir import make_folder
from app.errors import ConfigurationError
from app.security import SECRET_KEY_MIN_BYTES
from app.settings import Settings


def load_secret_key(settings: Settings) -> str:
    """Return SECRET_KEY if it is set, otherwise the data directory's key, created at first use.

    Processes that create the key at the same time all get the same key. Raises
    ConfigurationError.
    """
    if settings.secret_key:
        return settings.secret_key.get_secret_value()
    path = make_folder(settings.data_dir) / "secret_key"
    if not path.exists():
        _publish_new_key(path)
    path.chmod(0o600)
    key = path.read_text(encoding="utf-8").strip()
    if len(key.encode()) < SECRET_KEY_MIN_BYTES:
        raise ConfigurationError(
            f"{path} is damaged: it has fewer than {SECRET_KEY_MIN_BYTES} bytes."
            " Delete the file to create a new key; all users must then sign in again."
        )
    return key


def _publish_new_key(path: Path) -> None:
    """Write a key to a temporary file and link it to `path`.

    With the link, other processes see either no file or the complete key. It fails if another
    process was first.
    """
    descriptor, temporary = tempfile.mkstemp(prefix="secret_key.", dir=path.parent)  # O_EXCL, 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
