"""Every environment variable: its type, unit, default and meaning. Nothing else reads them.

`load_settings` is the way in: it reads the environment and `.env`, and raises one
ConfigurationError that names every variable that cannot work.
"""

import base64
import json
from contextlib import suppress
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

# The value of `.env.example`: known to everybody, so it protects nothing.
EXAMPLE_SECRET_KEY = "replace-me-with-the-output-of-openssl-rand-hex-32"
SECRET_KEY_MIN_BYTES = 32

_LEASE_SECONDS = 60.0
# A laptop's worker is killed and restarted often: its work should not wait a minute.
_EMBEDDED_LEASE_SECONDS = 10.0

# pydantic's word for a default that it did not compute, because another field is wrong.
_NOT_A_CAUSE = "default_factory_not_called"

_SCHEMES = {
    "mongodb_uri": ("mongodb://", "mongodb+srv://"),
    "redis_url": ("redis://", "rediss://", "unix://"),
}


def _in_capitals(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _is_database_name(value: str) -> str:
    if value in {"admin", "local", "config"}:
        raise PydanticCustomError("name", "must not be one of MongoDB's own: admin, local, config")
    if set(value) & set('/\\. "$*<>:|?\0'):
        raise PydanticCustomError("name", 'must not contain a space or any of /\\."$*<>:|?')
    return value


def _default_log_format(known: dict[str, Any]) -> Literal["json", "console"]:
    return "json" if known.get("environment") == "production" else "console"


def _default_lease_seconds(known: dict[str, Any]) -> float:
    return _LEASE_SECONDS if known.get("mongodb_uri") else _EMBEDDED_LEASE_SECONDS


class Settings(BaseSettings):
    """The service's settings, read-only. Fields are the variables' names in small letters.

    Addresses are secrets too, because they may carry a password.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 for a free one.")
    data_dir: Path = Field(
        Path(".data"),
        description="Folder of the embedded servers' data and of the secret key made at first run.",
    )
    environment: Literal["development", "production"] = Field(
        "development", description="production refuses to start without a SECRET_KEY of its own."
    )
    role: Literal["all", "api", "scheduler", "worker"] = Field(
        "all", description="What this process runs."
    )

    mongodb_uri: SecretStr | None = Field(
        None,
        description="mongodb:// or mongodb+srv:// address of a replica set;"
        " unset: an embedded mongod.",
    )
    mongodb_name: Annotated[str, AfterValidator(_is_database_name)] = Field(
        "carillon", min_length=1, max_length=63, description="Name of the database."
    )
    mongodb_timeout_seconds: float = Field(
        8, ge=0.5, le=120, description="Limit of every database call, in seconds."
    )
    redis_url: SecretStr | None = Field(
        None,
        description="redis://, rediss:// or unix:// address;"
        " unset: an embedded redis-server, else one inside the process.",
    )

    secret_key: SecretStr | None = Field(
        None,
        description="Signs tokens, at least 32 bytes (`openssl rand -hex 32`);"
        " unset in development: made once in DATA_DIR.",
    )
    algorithm: Literal["HS256", "HS384", "HS512"] = Field(
        "HS256", description="HMAC algorithm of the tokens."
    )
    access_token_expire_minutes: int = Field(
        60, ge=1, le=1440, description="Lifetime of an access token, in minutes."
    )
    admin_username: str = Field(
        "admin", min_length=1, max_length=64, description="Name of the first admin."
    )
    admin_password: SecretStr | None = Field(
        None,
        description="Password of the first admin, 12 to 128 characters;"
        " unset: a random one is printed once at the first start.",
    )

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_in_capitals)
    ] = Field("INFO", description="Lowest level that is logged.")
    log_format: Literal["json", "console"] = Field(
        default_factory=_default_log_format,
        description="Form of the log lines; unset: json in production, else console.",
    )

    worker_concurrency: int = Field(
        100, ge=1, le=10_000, description="Executions that one worker runs at once."
    )
    poll_interval_seconds: float = Field(
        1, ge=0.05, le=60, description="Longest wait between two looks for due work, in seconds."
    )
    lease_seconds: float = Field(
        default_factory=_default_lease_seconds,
        ge=5,
        le=3600,
        description="Time after which a silent worker's execution is taken over, in seconds;"
        " unset: 60, or 10 with the embedded database.",
    )
    retention_days: int = Field(
        30, ge=1, le=3650, description="Time after which finished executions are deleted, in days."
    )
    retention_count: int = Field(
        10_000, ge=1, le=1_000_000, description="Executions of one job that are kept, the newest."
    )
    shutdown_grace_seconds: float = Field(
        30, ge=0, le=3600, description="Time that running executions get at a stop, in seconds."
    )
    http_allow_private_hosts: bool = Field(
        False, description="Let HTTP targets call private and loopback addresses."
    )
    cache_ttl_seconds: float = Field(
        60, ge=0, le=60, description="Longest age of a cached answer, in seconds; 0: no cache."
    )
    max_body_bytes: int = Field(
        1_048_576, ge=1024, le=8_388_608, description="Largest request body, in bytes."
    )

    @property
    def embedded_database(self) -> bool:
        return self.mongodb_uri is None

    @property
    def access_token_lifetime(self) -> timedelta:
        return timedelta(minutes=self.access_token_expire_minutes)

    @property
    def poll_interval(self) -> timedelta:
        return timedelta(seconds=self.poll_interval_seconds)

    @property
    def lease(self) -> timedelta:
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
    def _scheme(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        schemes = _SCHEMES[str(info.field_name)]
        if value is not None and not value.get_secret_value().startswith(schemes):
            raise PydanticCustomError("scheme", f"must start with {' or '.join(schemes)}")
        return value

    @field_validator("admin_password")
    @classmethod
    def _password_length(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not 12 <= len(value) <= 128:
            raise PydanticCustomError("length", "must have 12 to 128 characters")
        return value

    @field_validator("secret_key")
    @classmethod
    def _symmetric_key(cls, value: SecretStr | None) -> SecretStr | None:
        # python-jose confuses such keys with HMAC keys: CVE-2024-33663 and CVE-2026-85394.
        if value is not None and looks_asymmetric(value.get_secret_value()):
            raise PydanticCustomError(
                "key_material",
                "looks like PEM, DER, JWK or SSH key material;"
                " use random text, such as the output of `openssl rand -hex 32`",
            )
        return value

    @model_validator(mode="after")
    def _production_has_a_secret(self) -> Self:
        if self.environment != "production":
            return self
        secret = self.secret_key.get_secret_value() if self.secret_key else ""
        if not secret:
            raise _weak_secret("must be set")
        if secret == EXAMPLE_SECRET_KEY:
            raise _weak_secret("must not be the one of .env.example, which everybody knows")
        if len(secret.encode()) < SECRET_KEY_MIN_BYTES:
            raise _weak_secret(f"must have at least {SECRET_KEY_MIN_BYTES} bytes")
        return self


def load_settings(*, env_file: str | Path | None = ".env", **overrides: Any) -> Settings:
    """The settings of the environment and `env_file` (None: no file); `overrides` win over both.

    Raises ConfigurationError, with a line for each variable that cannot work; values are not
    repeated, since they may be secrets.
    """
    try:
        return Settings(_env_file=env_file, **overrides)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        lines = [_line(detail) for detail in details if detail["type"] != _NOT_A_CAUSE]
        raise ConfigurationError("\n".join(["These settings cannot work:", *lines])) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"{env_file} cannot be read: {reason}") from None


def looks_asymmetric(key: str) -> bool:
    """Whether `key` is, or encodes, PEM, DER, JWK or SSH key material."""
    stripped = key.strip()
    if "-----BEGIN" in stripped or stripped.startswith(("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")):
        return True
    decoded = [key.encode("latin-1", "replace"), *_decodings(stripped)]
    return any(b"-----BEGIN" in raw or _is_der(raw) or _is_jwk(raw) for raw in decoded)


def _decodings(text: str) -> list[bytes]:
    """What `text` is as hex and as base64 (either alphabet, padded or not), where it is that."""
    compact = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    unpadded = compact.rstrip("=")
    padded = unpadded + "=" * (-len(unpadded) % 4)
    found = []
    with suppress(ValueError):
        found.append(bytes.fromhex(compact))
    with suppress(ValueError):
        found.append(base64.b64decode(padded, validate=True))
    return found


def _is_der(raw: bytes) -> bool:
    """An ASN.1 SEQUENCE that spans all of `raw` and starts as every kind of key does."""
    if len(raw) < 8 or raw[0] != 0x30:
        return False
    if raw[1] < 0x80:
        start, length = 2, raw[1]
    else:
        start = 2 + (raw[1] & 0x7F)
        length = int.from_bytes(raw[2:start], "big")
    first_is_key_like = raw[start : start + 1] in (b"\x02", b"\x30")  # INTEGER or SEQUENCE
    return start + length == len(raw) and first_is_key_like


def _is_jwk(raw: bytes) -> bool:
    if not raw.lstrip().startswith((b"{", b"[")):
        return False
    try:
        return isinstance(json.loads(raw), (dict, list))
    except (ValueError, RecursionError):
        return False


def _weak_secret(reason: str) -> PydanticCustomError:
    return PydanticCustomError(
        "secret_key",
        "SECRET_KEY {reason} when ENVIRONMENT is production; make one with `openssl rand -hex 32`",
        {"reason": reason},
    )


def _line(detail: ErrorDetails) -> str:
    """`PORT should be … (what it means)`, or the message alone where it concerns several."""
    message = detail["msg"].replace("Input should", "should")
    if not detail["loc"]:
        return f"  {message}"
    name = str(detail["loc"][0])
    field = Settings.model_fields.get(name.lower())
    meaning = f" ({field.description})" if field and field.description else ""
    return f"  {name.upper()} {message}{meaning}"
