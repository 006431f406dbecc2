"""The mistakes in `tests/mutants.toml` fit the present source, and failed tests are named."""

from pathlib import Path

from tests.mutants import ROOT, find_failed_test, load_mutants


def test_every_mistake_can_be_applied_and_names_existing_tests() -> None:
    wrong = [
        mutant.name
        for mutant in load_mutants()
        if (ROOT / mutant.file).read_text().count(mutant.old) != 1
        or mutant.old == mutant.new
        or not all(map(_exists, mutant.tests))
    ]
    assert wrong == []


def _exists(test: str) -> bool:
    """Whether there is a file or folder with this test. The script fails if pytest finds none."""
    name, *parts = test.split("::")
    path = ROOT / name
    return path.exists() and (not parts or f"def {parts[-1]}(" in path.read_text())


def test_names_of_mistakes_are_unique() -> None:
    names = [mutant.name for mutant in load_mutants()]
    assert len(names) == len(set(names)) > 0


def test_the_failed_test_is_named_also_if_it_has_logged_an_error(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    source = "import logging\n\ndef test_one():\n    logging.error('a line')\n    assert False\n"
    (tests / "test_log.py").write_text(source)
    assert find_failed_test(tmp_path, ["tests/test_log.py"]) == "tests/test_log.py::test_one"
