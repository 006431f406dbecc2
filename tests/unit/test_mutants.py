"""The list of mistakes in `tests/mutants.toml` fits the present source."""

from tests.mutants import ROOT, load_mutants


def test_every_mistake_can_be_applied_and_names_existing_tests() -> None:
    wrong = [
        mutant.name
        for mutant in load_mutants()
        if (ROOT / mutant.file).read_text().count(mutant.old) != 1
        or mutant.old == mutant.new
        or not all((ROOT / test.split("::")[0]).exists() for test in mutant.tests)
    ]
    assert wrong == []


def test_names_of_mistakes_are_unique() -> None:
    names = [mutant.name for mutant in load_mutants()]
    assert len(names) == len(set(names)) > 0
