"""The folder of a Unix socket, whose path the system limits to about 100 bytes."""

import os
import stat
import tempfile
from pathlib import Path

from app.embedded.private_files import can_be_replaced, has_trusted_owner, is_own_folder
from app.errors import ConfigurationError

MAX_PATH_BYTES = 90
"""The system's limit is 108 bytes on Linux and 104 on macOS."""
_GROUP_AND_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def choose_socket(folder: Path, name: str) -> Path:
    """Return the path for a socket in `folder`, or in another folder if that path is too long.

    The other folder is in the folder for temporary files, has a random name, and its path is
    recorded next to `folder` for the other processes. It is used only while it belongs to the
    current user and nobody else can enter it, so other users can neither predict nor replace it.
    Call it under the lock of the server. Raises ConfigurationError.
    """
    if _fits(folder / name):
        return folder / name
    record = folder.parent / f"{folder.name}.folder"
    recorded = _read(record)
    if recorded is not None and _is_private(recorded):
        return recorded / name
    created = _create(name)
    temporary = record.with_name(f"{record.name}.new")
    temporary.write_text(os.fspath(created), encoding="utf-8")
    temporary.replace(record)
    return created / name


def _create(name: str) -> Path:
    parent = Path(tempfile.gettempdir()).resolve()
    if not _is_safe_parent(parent):
        raise ConfigurationError(
            f"Other users can replace folders in {parent}. Set TMPDIR to a folder of your own, or"
            " DATA_DIR to a shorter path."
        )
    created = Path(tempfile.mkdtemp(prefix="carillon-", dir=parent))  # 0700
    if not _fits(created / name):
        created.rmdir()
        raise ConfigurationError(
            f"The path {parent} is too long for a socket. Set TMPDIR or DATA_DIR to a shorter path."
        )
    return created


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_PATH_BYTES


def _read(record: Path) -> Path | None:
    try:
        return Path(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _is_private(folder: Path) -> bool:
    """Whether only the current user can enter the folder, and nobody else can replace it."""
    return (
        is_own_folder(folder)
        and not folder.stat().st_mode & 0o077
        and _is_safe_parent(folder.parent)
    )


def _is_safe_parent(parent: Path) -> bool:
    """Whether other users cannot rename or delete the current user's folders in `parent`."""
    status = parent.stat()
    return has_trusted_owner(status) and not can_be_replaced(status, by=_GROUP_AND_OTHERS)
