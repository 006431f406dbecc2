"""Who may import whom in `tests/`."""

import pytest

from tests.architecture.rules import ROOT, find_imports_of

TESTS = ROOT / "tests"
ALLOWED = {("acceptance", "api")}
"""The acceptance test of the Postman collection compares it with the API's OpenAPI document."""
SUITES = ["acceptance", "api", "architecture", "chaos", "integration", "unit"]


@pytest.mark.parametrize("folder", [*SUITES, "support"])
def test_tests_share_code_only_through_support(folder: str) -> None:
    found = [
        location
        for other in SUITES
        if other != folder and (folder, other) not in ALLOWED
        for location in find_imports_of(TESTS / folder, f"tests.{other}")
    ]
    assert found == []


def test_every_folder_is_examined() -> None:
    folders = {path.name for path in TESTS.iterdir() if any(path.rglob("*.py"))}
    assert folders == {*SUITES, "support"}
