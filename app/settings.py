"""Every environment variable: its type, unit, default and meaning. No other module reads them.

`load_settings` reads the environment and `.env`, and raises one ConfigurationError that names
every invalid variable.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import ConfigurationError
from app.logs import LogFormat
from app.networks import MAX_NETWORKS
from app.security import (
    SECRET_KEY_MIN_BYTES,
    Algorithm,
)
from app.setting_values import (
    DNS_SERVERS,
    PASSWORD_LENGTHS,
    NetworkList,
    check_database_name,
    check_password_length,
    clean_secret_key,
    require_strong_secret_key,
    uppercase,
)

ENV_FILE = ".env"

_LEASE_SECONDS = 60.0
# On a laptop, workers are killed and restarted often, and a minute is a long time to wait.
_EMBEDDED_LEASE_SECONDS = 10.0

# pydantic reports this for a default that it could not compute, because another field is invalid.
_CONSEQUENTIAL_ERROR = "default_factory_not_called"

_SCHEMES = {
    "mongodb_uri": ("mongodb://", "mongodb+srv://"),
    "redis_url": ("redis://", "rediss://", "unix://"),
}


def _choose_log_format(validated: dict[str, Any]) -> LogFormat:
    return "json" if validated.get("environment") == "production" else "console"


def _choose_lease_seconds(validated: dict[str, Any]) -> float:
    return _LEASE_SECONDS if validated.get("mongodb_uri") else _EMBEDDED_LEASE_SECONDS


class Settings(BaseSettings):
    """The service's settings, read-only. A field has its variable's name in lower case.

    Addresses are secrets too, because they may contain a password.
    """

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all addresses.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 for a free port.")
    data_dir: Path = Field(
        Path(".data"),
        description="Folder of the embedded servers' data and of the generated secrets.",
    )
    environment: Literal["development", "production"] = Field(
        "development",
        description="production requires a SECRET_KEY that you have set and that is hard to guess.",
    )
    role: Literal["all", "api", "scheduler", "worker"] = Field(
        "all",
        description="The parts of the service that this process runs; scheduler and worker serve no"
        " API.",
    )

    mongodb_uri: SecretStr | None = Field(
        None,
        description="mongodb:// or mongodb+srv:// address of a replica set;"
        " unset: an embedded mongod.",
    )
    mongodb_name: Annotated[str, AfterValidator(check_database_name)] = Field(
        "carillon", min_length=1, max_length=63, description="Name of the database."
    )
    mongodb_timeout_seconds: float = Field(
        8, ge=0.5, le=120, description="Time limit of every database call, in seconds."
    )
    redis_url: SecretStr | None = Field(
        None,
        description="redis://, rediss:// or unix:// address;"
        " unset: an embedded redis-server, or a simulated one if none is installed.",
    )

    secret_key: Annotated[SecretStr | None, AfterValidator(clean_secret_key)] = Field(
        None,
        description=f"Signs tokens: {SECRET_KEY_MIN_BYTES} random bytes (`openssl rand -hex 32`);"
        " unset in development: generated once and kept in DATA_DIR.",
    )
    algorithm: Algorithm = Field("HS256", description="HMAC algorithm of the tokens.")
    access_token_expire_minutes: int = Field(
        60, ge=1, le=1440, description="Lifetime of an access token, in minutes."
    )
    admin_username: str = Field(
        "admin", min_length=1, max_length=64, description="Name of the first admin."
    )
    admin_password: Annotated[SecretStr | None, AfterValidator(check_password_length)] = Field(
        None,
        description=f"Password of the first admin, {PASSWORD_LENGTHS};"
        " unset: a random password is printed once, at the first start.",
    )

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(uppercase)
    ] = Field("INFO", description="Lowest level of the lines that are logged.")
    log_format: LogFormat = Field(
        default_factory=_choose_log_format,
        description="Format of the log lines; unset: json in production, otherwise console.",
    )

    worker_concurrency: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Number of executions that one worker runs at the same time.",
    )
    max_running_per_owner: int = Field(
        1_000,
        ge=1,
        le=1_000_000,
        description="Number of executions of one owner that run at the same time, in all workers.",
    )
    max_timeout_seconds: float = Field(
        3_600,
        ge=0.1,
        le=86_400,
        description="Longest timeout that a job may have, in seconds; jobs saved with more run with"
        " this one.",
    )
    poll_interval_seconds: float = Field(
        1, ge=0.05, le=60, description="Longest wait between two polls for due work, in seconds."
    )
    lease_seconds: float = Field(
        default_factory=_choose_lease_seconds,
        ge=5,
        le=3600,
        description="Length of a lease: time after which an execution is taken over if its worker"
        f" does not renew the lease, in seconds; unset: {_LEASE_SECONDS:g}, or"
        f" {_EMBEDDED_LEASE_SECONDS:g} with the embedded database.",
    )
    retention_days: int = Field(
        30, ge=1, le=3650, description="Time after which finished executions are deleted, in days."
    )
    retention_count: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Number of executions of one job that are kept; the newest stay.",
    )
    max_history_bytes_per_owner: int = Field(
        1_000_000_000,
        ge=10_000_000,
        le=1_000_000_000_000_000,
        description="Size of the response headers and bodies that are stored for the jobs of one"
        " owner, in bytes; beyond it executions are stored without them.",
    )
    shutdown_grace_seconds: float = Field(
        30,
        ge=0,
        le=3600,
        description="Time that running executions get to finish at a stop, in seconds.",
    )
    http_allow_private_hosts: bool = Field(
        False, description="Allow HTTP targets to call private and loopback addresses."
    )
    http_deny_networks: NetworkList = Field(
        (),
        description="Networks that HTTP targets must not call, even if HTTP_ALLOW_PRIVATE_HOSTS"
        f" allows them, separated by commas, at most {MAX_NETWORKS}.",
    )
    dns_servers: str | None = Field(
        None,
        pattern=DNS_SERVERS,
        description="IP addresses, each with an optional port, of the DNS servers for HTTP targets,"
        " separated by commas, IPv6 in brackets; unset: those of the system.",
    )
    cache_ttl_seconds: float = Field(
        60, ge=0, le=60, description="Longest age of a cached response, in seconds; 0: no cache."
    )  # at most `cache.MAX_TTL`
    max_body_bytes: int = Field(
        262_144, ge=1024, le=8_388_608, description="Largest request body, in bytes."
    )

    max_connections: int = Field(
        2_000,
        ge=10,
        le=100_000,
        description="Number of connections that clients may open to one process, half of them from"
        " one address.",
    )
    trusted_proxies: NetworkList = Field(
        (),
        description="Addresses and networks of proxies, separated by commas, whose X-Forwarded-For"
        f" gives the client's address, at most {MAX_NETWORKS}.",
    )

    @property
    def serves_api(self) -> bool:
        """Otherwise the port serves only the health of the process."""
        return self.role in ("all", "api")

    @property
    def access_token_lifetime(self) -> timedelta:
        return timedelta(minutes=self.access_token_expire_minutes)

    @property
    def poll_interval(self) -> timedelta:
        return timedelta(seconds=self.poll_interval_seconds)

    @property
    def lease_term(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @property
    def retention(self) -> timedelta:
        return timedelta(days=self.retention_days)

    @property
    def shutdown_grace(self) -> timedelta:
        return timedelta(seconds=self.shutdown_grace_seconds)

    @property
    def cache_ttl(self) -> timedelta:
        return timedelta(seconds=self.cache_ttl_seconds)

    @property
    def mongodb_timeout(self) -> timedelta:
        return timedelta(seconds=self.mongodb_timeout_seconds)

    @field_validator("mongodb_uri", "redis_url")
    @classmethod
    def _check_scheme(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        schemes = _SCHEMES[str(info.field_name)]
        if value is not None and not value.get_secret_value().startswith(schemes):
            raise PydanticCustomError("scheme", f"must start with {' or '.join(schemes)}")
        return value

    @model_validator(mode="after")
    def _require_strong_secret_key(self) -> Self:
        production = self.environment == "production"
        require_strong_secret_key(self.secret_key, production=production, host=self.host)
        return self


def load_settings(*, env_file: str | Path | None = ENV_FILE, **overrides: Any) -> Settings:
    """Read the environment and `env_file` (None: no file). `overrides` take precedence over both.

    Raises ConfigurationError, with one line for each invalid variable. The lines do not repeat
    the values, because values may be secrets.
    """
    try:
        return Settings(_env_file=env_file, **overrides)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        lines = [_describe(detail) for detail in details if detail["type"] != _CONSEQUENTIAL_ERROR]
        raise ConfigurationError("\n".join(["These settings are invalid:", *lines])) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"{env_file} cannot be read: {reason}") from None


def _describe(detail: ErrorDetails) -> str:
    """Return `PORT should be … (its meaning)`, or only the message if it is about two fields."""
    message = detail["msg"].replace("Input should", "should")
    if not detail["loc"]:
        return f"  {message}"
    name = str(detail["loc"][0])
    field = Settings.model_fields.get(name.lower())
    meaning = f" ({field.description})" if field and field.description else ""
    return f"  {name.upper()} {message}{meaning}"
