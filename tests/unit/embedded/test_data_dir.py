"""Which folders are accepted as DATA_DIR."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.embedded.data_dir import make_folder
from app.embedded.private_files import load_secret, make_private_folder
from app.embedded.stores import open_stores
from app.errors import ConfigurationError
from app.settings import load_settings

SOMEBODY = 4711


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `path` belong to another user. Without the right to do this, become another user."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)


def test_a_created_folder_is_for_the_current_user_only(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "parent" / "data")
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o707, 0o777, 0o1777])
def test_a_folder_that_everybody_may_write_to_is_rejected(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"DATA_DIR .*every user.*chmod o-w"):
        make_folder(tmp_path)


def test_a_folder_of_another_user_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(tmp_path, monkeypatch)
    with pytest.raises(ConfigurationError, match=r"DATA_DIR .*belongs to another user"):
        make_folder(tmp_path)


def test_a_folder_that_a_group_may_write_to_is_logged_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)  # a volume that Kubernetes has prepared for fsGroup
    with capture_logs() as logged:
        make_folder(tmp_path)
        make_folder(tmp_path)
    assert [line["event"] for line in logged] == ["data_dir_group_writable"]


async def test_a_folder_that_is_not_used_is_not_checked(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)  # noqa: ASYNC240
    settings = load_settings(
        env_file=None,
        data_dir=tmp_path,
        mongodb_uri="mongodb://127.0.0.1:1",
        redis_url="redis://127.0.0.1:1",
    )
    async with open_stores(settings) as stores:
        assert stores.mongodb_uri == "mongodb://127.0.0.1:1"


def test_a_readable_folder_in_it_is_closed_to_other_users(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir(mode=0o755)
    make_private_folder(tmp_path / "redis")
    assert (tmp_path / "redis").stat().st_mode & 0o777 == 0o700


def test_a_link_in_place_of_a_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "redis").symlink_to("elsewhere")
    with pytest.raises(ConfigurationError, match="redis is not a folder of the current user"):
        make_private_folder(tmp_path / "redis")


def test_a_readable_secret_is_closed_to_other_users(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x" * 32)
    path.chmod(0o644)
    assert load_secret(path) == "x" * 32
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_secret_of_another_user_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_text("x" * 32)
    give_away(path, monkeypatch)
    with pytest.raises(ConfigurationError, match="secret belongs to another user"):
        load_secret(path)
