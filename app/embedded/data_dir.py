"""The data directory: the folder that holds the embedded servers' data and the secrets."""

import os
import stat
from functools import cache
from pathlib import Path

import structlog

from app.embedded.private_files import can_be_replaced, has_trusted_owner
from app.errors import ConfigurationError

_log = structlog.get_logger(__name__)


def make_folder(path: Path) -> Path:
    """Create `path` if it does not exist and return its absolute form.

    Only the current user can read a folder created here. Raises ConfigurationError if the folder
    cannot be used, or if every user could replace it or the files in it. A folder of root is
    accepted and a folder that a group can write to is only logged, because Kubernetes prepares
    volumes like this (fsGroup).
    """
    folder = _resolve(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        open_parents = [
            one for one in folder.parents if can_be_replaced(one.stat(), by=stat.S_IWOTH)
        ]
    except OSError as error:
        raise _unusable(folder, str(error.strerror)) from None
    if not has_trusted_owner(status):
        raise _unusable(folder, "it belongs to another user, who could read and replace its files")
    if status.st_mode & stat.S_IWOTH:
        raise _unusable(
            folder, f"every user of this machine may write to it (chmod o-w {folder} changes this)"
        )
    if open_parents:
        raise _unusable(
            folder,
            f"every user of this machine may replace what is in {open_parents[0]}"
            f" (chmod +t {open_parents[0]} changes this)",
        )
    if not os.access(folder, os.W_OK):
        raise _unusable(folder, "it is not writable")
    if status.st_mode & stat.S_IWGRP:
        _warn_of_group(folder)
    return folder


def _resolve(path: Path) -> Path:
    try:
        path = path.expanduser()
    except RuntimeError:
        raise _unusable(path, "no home folder of this user is known") from None
    try:
        return path.resolve()
    except RuntimeError:
        raise _unusable(path, "its links lead in a circle") from None


@cache
def _warn_of_group(folder: Path) -> None:
    """Log the warning once, although every embedded server uses the folder."""
    _log.warning(
        "data_dir_group_writable",
        data_dir=str(folder),
        effect="members of its group can replace the embedded servers' data and the secrets",
    )


def _unusable(folder: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"DATA_DIR {folder} cannot be used: {reason}. Set DATA_DIR to a writable folder of your"
        " own."
    )
