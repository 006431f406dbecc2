"""The data directory: the folder that holds the embedded servers' data and the secret key."""

import os
from pathlib import Path

from app.errors import ConfigurationError


def make_folder(path: Path) -> Path:
    """Create `path` if it does not exist and return its absolute form.

    Only the current user can read a folder created here. Raises ConfigurationError.
    """
    folder = path.expanduser().resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, str(error.strerror)) from None
    if not os.access(folder, os.W_OK):
        raise _unusable(folder, "it is not writable")
    return folder


def _unusable(folder: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"DATA_DIR {folder} cannot be used: {reason}. Set DATA_DIR to a writable folder."
    )
