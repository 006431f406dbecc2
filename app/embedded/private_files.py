"""Folders and secrets that only the current user can read."""

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from app.errors import ConfigurationError

_MIN_BYTES = 32
_ROOT = 0


def make_private_folder(path: Path) -> Path:
    """Create the folder, or take the rights of other users away. Raises ConfigurationError if it
    belongs to another user, or is not a folder."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if path.is_symlink():
        raise ConfigurationError(
            f"{path} is a link, not a folder. To keep its data, move the folder that it leads to"
            f" here, in place of the link. To use another disk, move all of {path.parent} there and"
            " set DATA_DIR to it."
        )
    if not is_own_folder(path):
        raise ConfigurationError(
            f"{path} is not a folder of the current user. To keep its data, start as the user whose"
            " folder it is, or give it to the current user (chown -R). To start without data, set"
            " DATA_DIR to another folder."
        )
    path.chmod(0o700)
    return path


def is_own_folder(path: Path) -> bool:
    """Whether `path` is a folder of the current user, and not a link to one."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def has_trusted_owner(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to the current user, or to root, who can change every file
    anyway."""
    return status.st_uid in (os.geteuid(), _ROOT)


def can_be_replaced(parent: os.stat_result, *, by: int) -> bool:
    """Whether the users with these rights to write (bits of the mode) can rename or delete folders
    of the current user in `parent`. In a sticky folder they cannot."""
    return bool(parent.st_mode & by) and not parent.st_mode & stat.S_ISVTX


def load_secret(path: Path, *, label: str = "", effect: str = "") -> str:
    """Return the secret in the file, created at first use. In the file, `label` precedes it.

    Processes that create the file at the same time all get the same secret. `effect` tells what a
    new secret changes. Raises ConfigurationError.
    """
    try:
        if not path.exists():
            _publish(path, f"{label}{secrets.token_hex(_MIN_BYTES)}\n")
        text = _read_privately(path)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read or created: {error.strerror}. Check that its disk has room and"
            " that the current user may write to it, then start again."
        ) from None
    secret = text.strip().removeprefix(label.strip()).strip()
    if len(secret.encode()) < _MIN_BYTES:
        raise ConfigurationError(
            f"{path} is damaged: its secret has fewer than {_MIN_BYTES} bytes."
            f" Delete the file to create a new one{effect}."
        )
    return secret


def _read_privately(path: Path) -> str:
    """Read the file after taking the rights of other users away. A file of root is read as it is,
    because only root can change it."""
    with path.open(encoding="utf-8", errors="replace") as file:
        status = os.fstat(file.fileno())
        if not has_trusted_owner(status):
            raise ConfigurationError(
                f"{path} belongs to another user. Delete it, then start again."
            )
        if status.st_uid == os.geteuid():
            os.fchmod(file.fileno(), 0o600)
        return file.read()


def _publish(path: Path, text: str) -> None:
    """Write `text` to a temporary file and link it to `path`.

    With the link, other processes see either no file or the complete text. It fails if another
    process was first.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
