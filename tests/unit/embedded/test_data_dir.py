"""Which folders are accepted as DATA_DIR."""

import errno
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
    with pytest.raises(ConfigurationError, match=r"redis is a link.*move the folder") as caught:
        make_private_folder(tmp_path / "redis")
    assert "Delete" not in str(caught.value)


def test_a_link_to_nowhere_in_place_of_a_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "redis").symlink_to("elsewhere")
    with pytest.raises(ConfigurationError, match=r"redis is a link"):
        make_private_folder(tmp_path / "redis")


def test_a_folder_of_data_of_another_user_is_not_to_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mongodb").mkdir()
    give_away(tmp_path / "mongodb", monkeypatch)
    with pytest.raises(ConfigurationError, match="mongodb is not a folder of the") as caught:
        make_private_folder(tmp_path / "mongodb")
    assert "To keep its data" in str(caught.value)
    assert "Delete" not in str(caught.value)


def test_a_folder_is_rejected_if_every_user_may_replace_it(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    (parent / "between" / "data").mkdir(parents=True)
    parent.chmod(0o777)
    for folder in (parent / "data", parent / "between" / "data"):
        with pytest.raises(ConfigurationError, match=rf"DATA_DIR .*replace .*chmod \+t {parent} "):
            make_folder(folder)
    for mode in (0o1777, 0o775):
        parent.chmod(mode)
        assert make_folder(parent / "data").is_dir()


def test_a_home_folder_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"DATA_DIR ~nosuchuser/x .*no home folder"):
        make_folder(Path("~nosuchuser/x"))


def test_links_that_lead_in_a_circle_are_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigurationError, match=r"DATA_DIR .*loop .*links lead in a circle"):
        make_folder(tmp_path / "loop")


def test_a_secret_for_which_the_disk_has_no_room_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigurationError, match=r"secret_key cannot be .*No space left.*room"):
        load_secret(tmp_path / "secret_key")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_place_of_a_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret_key").mkdir()
    with pytest.raises(ConfigurationError, match=r"secret_key cannot be .*Is a directory"):
        load_secret(tmp_path / "secret_key")


@pytest.mark.parametrize("url", ["redis://[/", "redis://:canary@cache:port"])
async def test_a_malformed_redis_url_is_named_and_not_repeated(tmp_path: Path, url: str) -> None:
    settings = load_settings(
        env_file=None, data_dir=tmp_path, mongodb_uri="mongodb://127.0.0.1:1", redis_url=url
    )
    with pytest.raises(ConfigurationError, match="REDIS_URL is not an address") as caught:
        async with open_stores(settings):
            pass
    assert "canary" not in str(caught.value)


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
