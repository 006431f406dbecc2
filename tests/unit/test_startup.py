"""Names in `.env` that are probably misspelled settings."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.settings import Settings
from app.startup import list_similar_names, prepare_logs


def write(folder: Path, *names: str) -> Path:
    path = folder / ".env"
    path.write_text("".join(f"{name}=x\n" for name in names))
    return path


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("MONGO_URI", "MONGODB_URI"),
        ("mongodb_url", "MONGODB_URI"),
        ("REDIS_URI", "REDIS_URL"),
        ("CARILLON_PORT", "PORT"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("export SECRETKEY", "SECRET_KEY"),
        ("HTTP_ALLOW_PRIVATE_HOST", "HTTP_ALLOW_PRIVATE_HOSTS"),
    ],
)
def test_a_misspelled_name_is_found_with_the_setting_that_it_resembles(
    tmp_path: Path, name: str, setting: str
) -> None:
    found = list_similar_names(write(tmp_path, name))
    assert found == {name.removeprefix("export "): setting}


def test_settings_and_names_of_other_programs_are_not_reported(tmp_path: Path) -> None:
    others = ["MONGODB_PASSWORD", "MONGODB_ROOT_PASSWORD", "REDIS_PASSWORD", "POSTGRES_DB", "TZ"]
    known = [spell(name) for name in Settings.model_fields for spell in (str.upper, str.lower)]
    assert list_similar_names(write(tmp_path, *known, *others)) == {}
    assert list_similar_names(tmp_path / "missing") == {}


def test_a_misspelled_name_is_a_warning_at_the_start_and_its_value_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SECRET_KYE=canary\nPORT=9000\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("app.startup.configure_logs", lambda *_: None)
    with capture_logs() as lines:
        prepare_logs(Settings())
    assert lines == [
        {
            "event": "unknown_setting",
            "log_level": "warning",
            "file": ".env",
            "name": "SECRET_KYE",
            "effect": "ignored",
            "did_you_mean": "SECRET_KEY",
        }
    ]
