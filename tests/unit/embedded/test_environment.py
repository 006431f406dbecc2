"""The environment of an embedded server."""

import sysconfig
from pathlib import Path

import pytest

from app.embedded.shared_server import _build_environment


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the libraries that are in the package pycurl. It is not installed."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    return tmp_path / "pycurl.libs"


def test_a_server_gets_no_setting_of_the_service(
    libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary")
    monkeypatch.setenv("LANG", "C.UTF-8")
    environment = _build_environment()
    assert "SECRET_KEY" not in environment
    assert environment["LANG"] == "C.UTF-8"
    assert "LD_LIBRARY_PATH" not in environment


@pytest.mark.parametrize(("given", "expected"), [("", "{0}"), ("/opt/lib", "{0}:/opt/lib")])
def test_a_server_finds_the_libcurl_that_was_installed_because_the_system_has_none(
    libraries: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    libraries.mkdir()
    (libraries / "libcurl.so.4").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", given)
    assert _build_environment()["LD_LIBRARY_PATH"] == expected.format(libraries)
