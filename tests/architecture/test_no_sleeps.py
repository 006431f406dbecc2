"""No test sleeps: a pause is too short on a slow machine and wastes time on a fast one.

Tests move the manual clock, wait for an event, or use the bounded waits of `support/waiting.py`.
The code of `tests/chaos` works in real time, so it may sleep.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
WAITING_MODULE = TESTS / "support" / "waiting.py"
_CALL_IN_TEXT = re.compile(r"\bsleep\(")

CLEAN = """
import asyncio
from tests.support.waiting import eventually

async def test_it_ends(job):
    await eventually(lambda: job.ended)
    await asyncio.Event().wait()
"""

BROKEN = [
    "import time\ntime.sleep(1)",
    "import time as t\nt.sleep(1)",
    "from time import sleep\nsleep(1)",
    "from time import sleep as pause\npause(1)",
    "import asyncio\nasync def wait(): await asyncio.sleep(0)",
    "from asyncio import sleep as pause",
    "import asyncio\nstart(lambda _: asyncio.sleep(60))",
    "import asyncio\npause = asyncio.sleep",
    "import asyncio\nfrom functools import partial\nwait = partial(asyncio.sleep, 1)",
    "PROGRAM = '''\nimport time\ntime.sleep(60)\n'''",
    "import anyio\nasync def wait(): await anyio.sleep(1)",
]


def find_sleeps(path: Path) -> Iterator[int]:
    """Yield the lines of a file that name a function `sleep` or call it in an embedded program."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(attr="sleep") | ast.Name(id="sleep") | ast.alias(name="sleep"):
                yield node.lineno
            case ast.Constant(value=str() as text) if _CALL_IN_TEXT.search(text):
                yield node.lineno


def is_checked(path: Path) -> bool:
    is_exempt = path in (WAITING_MODULE, Path(__file__).resolve())
    return not is_exempt and TESTS / "chaos" not in path.parents


def test_no_test_sleeps() -> None:
    files = [path for path in TESTS.rglob("*.py") if is_checked(path)]
    assert len(files) > 50
    found = [f"{path.relative_to(TESTS)}:{line}" for path in files for line in find_sleeps(path)]
    assert not found, f"use tests/support/waiting.py instead of a sleep: {found}"


@pytest.mark.parametrize("source", BROKEN)
def test_a_sleep_is_found(source: str, tmp_path: Path) -> None:
    broken = tmp_path / "test_broken.py"
    broken.write_text(source)
    assert list(find_sleeps(broken))


def test_a_bounded_wait_is_allowed(tmp_path: Path) -> None:
    clean = tmp_path / "test_clean.py"
    clean.write_text(CLEAN)
    assert not list(find_sleeps(clean))
