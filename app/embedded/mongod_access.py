"""Access to the embedded mongod: its key file, and the only account.

Without them every user of the machine could read and write the data. mongod accepts no connection
without a password, not even to create the first account, so the accounts are created by a
connection that signs in as `__system` with the key file. SCRAM does not show the password to a
program that has taken mongod's port, and detects such a program.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from app.embedded.loopback import HOST
from app.embedded.private_files import load_secret

_USERNAME = "carillon"
_MECHANISM = "SCRAM-SHA-256"
_AUTHENTICATION_FAILED = 18
# The password has 256 random bits, so a slow hash would protect nothing. This is the minimum.
_HASH_ITERATIONS = 5_000

Client = MongoClient[dict[str, Any]]


@dataclass(frozen=True)
class MongodAccess:
    """The key file and the secrets of one mongod."""

    key_file: Path
    key: str = field(repr=False)
    password: str = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> "MongodAccess":
        """Read the secrets that are next to `folder`, or create them. Raises ConfigurationError."""
        key_file = folder.parent / f"{folder.name}.key"
        password = load_secret(folder.parent / f"{folder.name}.password")
        return cls(key_file, load_secret(key_file), password)

    def build_options(self) -> list[str]:
        """Return the options of mongod. Compression is off, because mongod decompresses what
        clients send before they have signed in (CVE-2025-14847)."""
        return [
            "--keyFile", str(self.key_file),
            "--setParameter", "enableLocalhostAuthBypass=false",
            "--setParameter", f"scramSHA256IterationCount={_HASH_ITERATIONS}",
            "--networkMessageCompressors", "disabled",
        ]  # fmt: skip

    def build_uri(self, port: int, replica_set: str) -> str:
        return (
            f"mongodb://{_USERNAME}:{self.password}@{HOST}:{port}/"
            f"?replicaSet={replica_set}&authSource=admin&authMechanism={_MECHANISM}"
        )

    def open_as_system(self, port: int) -> Client:
        """A client with all rights, which also mongod itself has by its key file."""
        return _open(port, "__system", self.key, "local")

    def ensure_account(self, system: Client, port: int) -> None:
        """Make the account of the service the only one, unless it has its password already.

        The first time, this deletes accounts that another user of the machine may have created
        while the data had no password. A start that was killed at any step is completed.
        """
        if self._can_sign_in(port):
            return
        for account in system.admin.command("usersInfo", {"forAllDBs": True})["users"]:
            system[account["db"]].command("dropUser", account["user"])
        system.admin.command(
            "createUser",
            _USERNAME,
            pwd=self.password,
            # Any database, because MONGODB_NAME may change.
            roles=["readWriteAnyDatabase"],
            mechanisms=[_MECHANISM],
        )

    def _can_sign_in(self, port: int) -> bool:
        with _open(port, _USERNAME, self.password, "admin") as client:
            try:
                client.admin.command("ping")
            except OperationFailure as error:
                if error.code != _AUTHENTICATION_FAILED:
                    raise
                return False
            return True


def _open(port: int, username: str, password: str, source: str) -> Client:
    return MongoClient(
        HOST,
        port,
        directConnection=True,
        username=username,
        password=password,
        authSource=source,
        authMechanism=_MECHANISM,
        # Short, because the caller tries again and checks whether mongod still runs.
        serverSelectionTimeoutMS=500,
        timeoutMS=5000,
    )
