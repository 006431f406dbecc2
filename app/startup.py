"""What every way to start the service does: the logs, and the messages of errors."""

import sys
from pathlib import Path

import structlog
from dotenv import dotenv_values

from app.errors import CarillonError, InvalidInputError
from app.logs import configure_logs
from app.setting_values import find_similar
from app.settings import ENV_FILE, Settings

_log = structlog.get_logger(__name__)


def prepare_logs(settings: Settings, *, level: str | None = None) -> None:
    """Configure the logs, and warn of names in `.env` that are probably misspelled settings."""
    configure_logs(level or settings.log_level, settings.log_format)
    for name, setting in list_similar_names(ENV_FILE).items():
        _log.warning(
            "unknown_setting", file=ENV_FILE, name=name, effect="ignored", did_you_mean=setting
        )


def list_similar_names(env_file: str | Path) -> dict[str, str]:
    """The names in the file that are no settings but resemble one, each with that setting."""
    known = [name.upper() for name in Settings.model_fields]
    names = dotenv_values(env_file, interpolate=False)
    return {name: similar for name in names if (similar := find_similar(name, known))}


def print_error(error: CarillonError) -> None:
    sys.stderr.write(f"carillon: {_describe(error)}\n")
    sys.stderr.flush()


def _describe(error: CarillonError) -> str:
    """The text of an error without JSON pointers, which have no meaning in a terminal."""
    if isinstance(error, InvalidInputError) and error.errors:
        return "; ".join(field.detail for field in error.errors)
    return error.detail
