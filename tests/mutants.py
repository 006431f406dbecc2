"""Small mistakes in the code that carries the guarantees, and the tests that must notice them.

`python -m tests.mutants [NAME ...]` applies the mistakes of `mutants.toml` one after the other to a
copy of the source, and runs the tests that must then fail. It prints a table and ends with code 1
if a test passes in spite of the mistake. It is run by hand, because it takes a while.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_COPIED = ("app", "tests", "pyproject.toml", "requirements.txt")
_LIMIT_SECONDS = 300  # a mistake may make a test wait for ever


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: `old`, which occurs once in `file`, becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    """Arguments of pytest: the tests of which at least one must fail."""

    def apply(self, root: Path) -> None:
        """Write the mistake into the copy. Raises ValueError if the source has changed."""
        path = root / self.file
        source = path.read_text()
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: `old` must occur once in {self.file}")
        path.write_text(source.replace(self.old, self.new))


def load_mutants() -> list[Mutant]:
    tables = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["mutant"]
    return [Mutant(**{**table, "tests": tuple(table["tests"])}) for table in tables]


@contextmanager
def copy_source() -> Iterator[Path]:
    """A copy of the source in a temporary folder, so that a stopped run leaves no mistake."""
    with tempfile.TemporaryDirectory() as folder:
        for name in _COPIED:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, Path(folder) / name)
        yield Path(folder)


def find_failed_test(root: Path, tests: Sequence[str]) -> str | None:
    """Run these tests in the copy; return the first one that failed, or None if all passed.

    Raises ValueError if pytest could not run them.
    """
    command = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests)
    try:
        ended = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_LIMIT_SECONDS} s"
    if ended.returncode == 0:
        return None
    # Lines of a captured log begin with "ERROR", too.
    ends = ("FAILED tests/", "ERROR tests/")
    failed = [line for line in ended.stdout.splitlines() if line.startswith(ends)]
    if ended.returncode != 1 or not failed:
        raise ValueError(ended.stdout + ended.stderr)
    return failed[0].split(" ")[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to try; default: all")
    names = parser.parse_args().names
    survivors = 0
    mutants = [mutant for mutant in load_mutants() if not names or mutant.name in names]
    for mutant in mutants:
        with copy_source() as root:
            mutant.apply(root)
            failed = find_failed_test(root, mutant.tests)
        survivors += failed is None
        sys.stdout.write(f"{mutant.name:58} {failed or 'SURVIVED'}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(mutants) - survivors} of {len(mutants)} mistakes were noticed\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
