"""Rules on source files that ruff and import-linter cannot express.

Each rule takes the folder of an application and returns what breaks it, one line for each place.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50

VAGUE_WORDS = {
    *("manager", "helper", "helpers", "util", "utils"),
    *("base", "impl", "common", "core"),
}
VAGUE_LAST_WORDS = VAGUE_WORDS | {"data", "info"}
"""These two are specific in front of another word, as in `data_dir`."""

CLOCK_FUNCTIONS = {
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    *(
        f"time.{name}{suffix}"
        for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
        for suffix in ("", "_ns")
    ),
    *(f"time.{name}" for name in ("clock_gettime", "clock_gettime_ns", "gmtime", "localtime")),
    *(f"time.{name}" for name in ("ctime", "asctime", "strftime")),
}

Exceptions = Mapping[str, str]
"""Places that may break a rule, each with the reason."""


def find_missing_docstrings(app: Path) -> Iterator[str]:
    """Every module says in its first line what it owns."""
    for name, tree in _modules(app):
        if not ast.get_docstring(tree):
            yield f"{name}: no docstring"


def find_relative_imports(app: Path) -> Iterator[str]:
    for name, tree in _modules(app):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield f"{name}:{node.lineno}: relative import"


def find_long_files(app: Path, exceptions: Exceptions) -> Iterator[str]:
    long: set[str] = set()
    for path in _paths(app):
        lines = len(path.read_text().splitlines())
        if lines > MAX_FILE_LINES:
            long.add(_name(path, app))
            if _name(path, app) not in exceptions:
                yield f"{_name(path, app)}: {lines} lines, at most {MAX_FILE_LINES}"
    yield from _unused(exceptions, long)


def find_long_functions(app: Path, exceptions: Exceptions) -> Iterator[str]:
    long: set[str] = set()
    for name, tree in _modules(app):
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                place = f"{name}:{node.name}"
                long.add(place)
                if place not in exceptions:
                    yield f"{place}: {lines} lines, at most {MAX_FUNCTION_LINES}"
    yield from _unused(exceptions, long)


def find_vague_names(app: Path) -> Iterator[str]:
    """Names of folders, files and classes say more than `Manager` or `common`."""
    for name, tree in _modules(app):
        if any(_is_vague(part.split("_")) for part in name.removesuffix(".py").split("/")):
            yield f"{name}: vague name of a file or folder"
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and _is_vague(_words(node.name)):
                yield f"{name}:{node.lineno}: vague class name {node.name}"


def find_blanket_excepts(app: Path, exceptions: Exceptions) -> Iterator[str]:
    """`except Exception` hides bugs, so only the files in `exceptions` have it. `BaseException`
    and a bare `except` stop cancellation too, so no file has them."""
    used: set[str] = set()
    for name, tree in _modules(app):
        names = _Names(tree)
        for node, caught in _caught(tree, names):
            if caught == "Exception" and name in exceptions:
                used.add(name)
            else:
                yield f"{name}:{node.lineno}: catches {caught}"
    yield from _unused(exceptions, used)


def find_clock_calls(app: Path, exceptions: Exceptions) -> Iterator[str]:
    """Only the clock reads the time. Names are followed through imports and their aliases."""
    used: set[str] = set()
    for name, tree in _modules(app):
        names = _Names(tree)
        for node in ast.walk(tree):
            for function in _clock_functions(node, names):
                if name in exceptions:
                    used.add(name)
                else:
                    yield f"{name}:{getattr(node, 'lineno', 0)}: reads the time by {function}"
    yield from _unused(exceptions, used)


def find_imports_of(folder: Path, package: str) -> Iterator[str]:
    """Imports of the package or of a module in it, in the files of the folder."""
    for name, tree in _modules(folder):
        for node in ast.walk(tree):
            if any(f"{found}.".startswith(f"{package}.") for found in _imported(node)):
                yield f"{name}:{getattr(node, 'lineno', 0)}: imports {package}"


class _Names:
    """What the names of a module stand for: imported names and assigned ones."""

    def __init__(self, tree: ast.Module) -> None:
        self._imported: dict[str, str] = {}
        self._assigned: dict[str, ast.expr] = {}
        for node in ast.walk(tree):
            self._note_import(node)
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._assigned[name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self._assigned[name] = value

    def _note_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                self._imported[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self._imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def dotted(self, node: ast.expr) -> str | None:
        """The full name of `node`, such as `datetime.datetime.now`, or None."""
        return self._dotted(node, frozenset())

    def _dotted(self, node: ast.expr, seen: frozenset[str]) -> str | None:
        if isinstance(node, ast.Attribute):
            owner = self._dotted(node.value, seen)
            return None if owner is None else f"{owner}.{node.attr}"
        if not isinstance(node, ast.Name):
            return None
        if node.id in self._imported:
            return self._imported[node.id]
        if node.id in self._assigned and node.id not in seen:
            return self._dotted(self._assigned[node.id], seen | {node.id})
        return node.id

    def members(self, node: ast.expr) -> Iterator[ast.expr]:
        """The single expressions of a tuple, also of one with a name."""
        yield from self._members(node, frozenset())

    def _members(self, node: ast.expr, seen: frozenset[str]) -> Iterator[ast.expr]:
        match node:
            case ast.Tuple(elts=elements):
                for element in elements:
                    yield from self._members(element, seen)
            case ast.Starred(value=value):
                yield from self._members(value, seen)
            case ast.BinOp(left=left, right=right):
                yield from self._members(left, seen)
                yield from self._members(right, seen)
            case ast.Name(id=name) if name in self._assigned and name not in seen:
                yield from self._members(self._assigned[name], seen | {name})
            case _:
                yield node


def _caught(tree: ast.Module, names: _Names) -> Iterator[tuple[ast.expr | ast.excepthandler, str]]:
    """Handlers and `suppress` calls that catch everything, with what they catch."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield node, "everything"
            else:
                yield from ((node, name) for name in _blanket(node.type, names))
        elif isinstance(node, ast.Call) and names.dotted(node.func) == "contextlib.suppress":
            for argument in node.args:
                yield from ((node, name) for name in _blanket(argument, names))


def _blanket(node: ast.expr, names: _Names) -> Iterator[str]:
    for member in names.members(node):
        name = (names.dotted(member) or "").removeprefix("builtins.")
        if name in {"Exception", "BaseException"}:
            yield name


def _clock_functions(node: ast.AST, names: _Names) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if f"{node.module}.{alias.name}" in CLOCK_FUNCTIONS:
                yield f"{node.module}.{alias.name}"
    elif isinstance(node, ast.Attribute):
        dotted = names.dotted(node)
        if dotted in CLOCK_FUNCTIONS:
            yield dotted
        elif node.attr == "time" and dotted != "datetime.time":
            yield "time() of an event loop"


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_vague(words: list[str]) -> bool:
    return bool(VAGUE_WORDS & set(words)) or words[-1] in VAGUE_LAST_WORDS


def _words(class_name: str) -> list[str]:
    """`HTTPTargetSpec` is http, target, spec."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+", class_name)
    return [word.lower() for word in words] or [""]


def _unused(exceptions: Exceptions, used: set[str]) -> Iterator[str]:
    for place in sorted(exceptions.keys() - used):
        yield f"{place}: keeps the rule, so remove it from the exceptions"


def _modules(folder: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in _paths(folder):
        yield _name(path, folder), ast.parse(path.read_text())


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
