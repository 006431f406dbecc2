"""The record of an embedded server."""

from pathlib import Path

import pytest

from app.embedded.server_files import ServerFiles


@pytest.mark.parametrize(
    "text",
    [
        *("3", "null", "[]", '"x"', "{", "", "\xff\xfe"),
        *('{"port": "x"}', '{"port": 65536}', '{"port": -1}', '{"port": true}', '{"port": 1.5}'),
        *('{"pid": -1}', '{"pid": 0}', '{"pid": null}', '{"other": 1}', '{"port": [1]}'),
    ],
)  # fmt: skip
def test_a_value_that_was_not_recorded_by_the_service_is_absent(tmp_path: Path, text: str) -> None:
    files = ServerFiles(tmp_path / "mongodb")
    (tmp_path / "mongodb.json").write_text(text, encoding="latin-1")
    assert files.read_record() == {}
    assert not files.is_protected()


def test_what_was_recorded_is_read(tmp_path: Path) -> None:
    files = ServerFiles(tmp_path / "mongodb")
    assert files.read_record() == {}
    files.write_record(port=0, pid=1)
    assert files.read_record() == {"port": 0, "pid": 1, "protected": 1}
    assert files.is_protected()
    files.write_record(port=65_535, pid=4_194_304)
    assert files.read_record()["port"] == 65_535
