"""The application keeps the rules of tests/architecture/rules.py, and each rule finds its
violations in a small application."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.rules import ROOT

APP = ROOT / "app"

LONG_FILES = {"runtime.py": "it composes every part of the service in one place"}

LONG_FUNCTIONS: dict[str, str] = {}

BLANKET_EXCEPTS = {
    "engine/loop.py": (1, "an error in one round must not end the service"),
    "engine/executor.py": (1, "an error in a target is the failure of that attempt"),
    "engine/recorder.py": (
        2,
        "later batches wait for its task, other results for the limit of one",
    ),
    "repositories/batches.py": (1, "an error of a single item is passed to its caller"),
}

CLOCKS = {
    "clock.py": (2, "it is the clock"),
    "middleware/request_deadline.py": (1, "a timeout is moved to an instant of the event loop"),
}


def test_every_module_has_a_docstring() -> None:
    assert [*rules.find_missing_docstrings(APP)] == []


def test_imports_are_absolute() -> None:
    assert [*rules.find_relative_imports(APP)] == []


def test_files_are_short() -> None:
    assert [*rules.find_long_files(APP, LONG_FILES)] == []


def test_functions_are_short() -> None:
    assert [*rules.find_long_functions(APP, LONG_FUNCTIONS)] == []


def test_names_are_specific() -> None:
    assert [*rules.find_vague_names(APP)] == []


def test_only_the_listed_files_catch_every_exception() -> None:
    assert [*rules.find_blanket_excepts(APP, BLANKET_EXCEPTS)] == []


def test_only_the_clock_reads_the_time() -> None:
    assert [*rules.find_clock_calls(APP, CLOCKS)] == []


# Each rule on an application with one file.

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that makes an `app/` with one file and returns the folder."""

    def write(text: str, name: str = "module.py") -> Path:
        path = tmp_path / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path / "app"

    return write


def count(violations: Iterable[str]) -> int:
    return len([*violations])


@pytest.mark.parametrize(
    ("text", "expected"),
    [('"""Owns the queue."""\n', 0), ("", 1), ("# Owns the queue.\n", 1), ("x = 1\n'doc'\n", 1)],
)
def test_a_missing_docstring_is_found(write: Write, text: str, expected: int) -> None:
    assert count(rules.find_missing_docstrings(write(text))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("from app import jobs\n", 0), ("from . import jobs\n", 1), ("from ..a import b\n", 1)],
)
def test_a_relative_import_is_found(write: Write, text: str, expected: int) -> None:
    assert count(rules.find_relative_imports(write(text))) == expected


@pytest.mark.parametrize(("lines", "expected"), [(300, 0), (301, 1)])
def test_a_long_file_is_found(write: Write, lines: int, expected: int) -> None:
    app = write("x = 1\n" * lines)
    assert count(rules.find_long_files(app, {})) == expected


def test_a_long_file_with_a_reason_is_allowed(write: Write) -> None:
    app = write("x = 1\n" * 301)
    assert count(rules.find_long_files(app, {"module.py": "a reason"})) == 0


@pytest.mark.parametrize("definition", ["def f():\n", "async def f():\n"])
@pytest.mark.parametrize(("lines", "expected"), [(50, 0), (51, 1)])
def test_a_long_function_is_found(write: Write, definition: str, lines: int, expected: int) -> None:
    app = write(definition + "    x = 1\n" * (lines - 1))
    assert count(rules.find_long_functions(app, {})) == expected
    assert count(rules.find_long_functions(app, {"module.py:f": "a reason"})) == 1 - expected


@pytest.mark.parametrize(
    "name",
    [
        "JobManager",
        "Helper",
        "HTTPUtil",
        "BaseTarget",
        "CacheImpl",
        "JobData",
        "UserInfo",
        "CommonFields",
        "CoreEngine",
        "DataManager",
    ],
)
def test_a_vague_class_name_is_found(write: Write, name: str) -> None:
    assert count(rules.find_vague_names(write(f"class {name}: ...\n"))) == 1


@pytest.mark.parametrize(
    "name", ["Database", "DataDir", "InfoLine", "Informer", "Scores", "BasedOn", "RunningAttempt"]
)
def test_a_specific_class_name_is_allowed(write: Write, name: str) -> None:
    assert count(rules.find_vague_names(write(f"class {name}: ...\n"))) == 0


@pytest.mark.parametrize(
    "name",
    ["common.py", "core/jobs.py", "job_utils.py", "helpers/__init__.py", "base.py", "job_data.py"],
)
def test_a_vague_file_name_is_found(write: Write, name: str) -> None:
    assert count(rules.find_vague_names(write("", name))) == 1


@pytest.mark.parametrize("name", ["data_dir.py", "database.py", "information.py", "score/jobs.py"])
def test_a_specific_file_name_is_allowed(write: Write, name: str) -> None:
    assert count(rules.find_vague_names(write("", name))) == 0


@pytest.mark.parametrize(
    "handler",
    [
        "except: ...",
        "except Exception: ...",
        "except Exception as error: ...",
        "except BaseException: ...",
        "except (Exception,): ...",
        "except (ValueError, (KeyError, Exception)): ...",
        "except builtins.Exception: ...",
        "except Everything: ...",
        "except EVERY: ...",
        "except (*EVERY, KeyError): ...",
        "except* Exception: ...",
    ],
)
def test_a_blanket_except_is_found(write: Write, handler: str) -> None:
    app = write(
        "import builtins\nEverything = Exception\nEVERY = (ValueError, Exception)\n"
        f"try: ...\n{handler}\n"
    )
    assert count(rules.find_blanket_excepts(app, {})) == 1


@pytest.mark.parametrize(
    "text",
    [
        "from contextlib import suppress\nwith suppress(Exception): ...\n",
        "from contextlib import suppress as ignore\nwith ignore(KeyError, Exception): ...\n",
        "import contextlib\nwith contextlib.suppress(BaseException): ...\n",
        "import contextlib as c\nALL = (Exception,)\nwith c.suppress(*ALL): ...\n",
    ],
)
def test_a_blanket_suppress_is_found(write: Write, text: str) -> None:
    assert count(rules.find_blanket_excepts(write(text), {})) == 1


@pytest.mark.parametrize(
    "text",
    [
        "try: ...\nexcept ValueError: ...\n",
        "try: ...\nexcept (ValueError, errors.Exceptional): ...\n",
        "from contextlib import suppress\nwith suppress(KeyError): ...\n",
    ],
)
def test_a_narrow_except_is_allowed(write: Write, text: str) -> None:
    assert count(rules.find_blanket_excepts(write(text), {})) == 0


@pytest.mark.parametrize(
    ("handler", "expected"),
    [("except Exception: ...", 0), ("except BaseException: ...", 2), ("except: ...", 2)],
)
def test_an_exempted_file_may_catch_exception_but_not_base_exception(
    write: Write, handler: str, expected: int
) -> None:
    """Two violations: the handler, and the exemption that is not needed."""
    app = write(f"try: ...\n{handler}\n")
    assert count(rules.find_blanket_excepts(app, {"module.py": (1, "a reason")})) == expected


def test_an_exempted_file_may_catch_exception_only_as_often_as_the_exemption_says(
    write: Write,
) -> None:
    app = write("try: ...\nexcept Exception: ...\n" * 2)
    for allowed, violations in ((1, 1), (2, 0), (3, 1)):
        found = rules.find_blanket_excepts(app, {"module.py": (allowed, "a reason")})
        assert count(found) == violations


@pytest.mark.parametrize(
    "text",
    [
        "import datetime\ndatetime.datetime.now()\n",
        "import datetime as dt\ndt.datetime.now(dt.UTC)\n",
        "from datetime import datetime\ndatetime.now()\n",
        "from datetime import datetime as D\nD.utcnow()\n",
        "from datetime import datetime\nread = datetime.now\n",
        "import datetime as dt\nD = dt.datetime\nD.today()\n",
        "from datetime import date\ndate.today()\n",
        "import datetime\ndatetime.date.today()\n",
        "import time\ntime.time()\n",
        "import time as t\nt.monotonic()\n",
        "from time import monotonic\n",
        "from time import perf_counter as count\n",
        "import time\ntime.perf_counter()\n",
        "import time\ntime.time_ns()\n",
        "import time\ntime.monotonic_ns()\n",
        "import time\ntime.perf_counter_ns()\n",
        "def late():\n    import time\n    return time.time\n",
        "import asyncio\nasyncio.get_running_loop().time()\n",
        "def late(loop):\n    return loop.time()\n",
        "class Loop:\n    def late(self):\n        return self._loop.time\n",
        "import asyncio\nasyncio.timeout(0).when()\n",
        "def late(loop):\n    return loop.call_later(0, print).when()\n",
    ],
)
def test_a_reading_of_the_time_is_found(write: Write, text: str) -> None:
    assert count(rules.find_clock_calls(write(text), {})) == 1
    assert count(rules.find_clock_calls(write(text), {"module.py": (1, "a reason")})) == 0


@pytest.mark.parametrize(
    "text",
    [
        "def read(clock):\n    return clock.now(), clock.monotonic()\n",
        "import datetime\nNOON = datetime.time(12)\n",
        "from datetime import datetime\ndatetime.fromisoformat('2026-11-21')\n",
        "import asyncio\nasyncio.timeout(5)\n",
    ],
)
def test_other_uses_of_time_are_allowed(write: Write, text: str) -> None:
    assert count(rules.find_clock_calls(write(text), {})) == 0


def test_an_exemption_that_is_not_needed_is_found(write: Write) -> None:
    app, unneeded = write('"""Short."""\n'), {"module.py": (1, "a reason")}
    assert count(rules.find_long_files(app, {"module.py": "a reason"})) == 1
    assert count(rules.find_long_functions(app, {"module.py:f": "a reason"})) == 1
    assert count(rules.find_blanket_excepts(app, unneeded)) == 1
    assert count(rules.find_clock_calls(app, unneeded)) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import tests.chaos\n", 1),
        ("from tests import chaos\n", 1),
        ("from tests.chaos.history import Replay\n", 1),
        ("from tests.support.replay import Replay\n", 0),
        ("from tests import chaos_free\n", 0),
    ],
)
def test_an_import_of_a_package_is_found(write: Write, text: str, expected: int) -> None:
    assert count(rules.find_imports_of(write(text), "tests.chaos")) == expected
