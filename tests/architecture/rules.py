"""Rules on source files that ruff and import-linter cannot express.

Each function `find_...` takes the folder of an application and yields one line per violation.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50

VAGUE_WORDS = {
    *("manager", "helper", "helpers", "util", "utils"),
    *("base", "impl", "common", "core"),
}
VAGUE_LAST_WORDS = VAGUE_WORDS | {"data", "info"}
"""`data` and `info` are vague only as the last word: `data_dir` is allowed."""

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

Exemptions = Mapping[str, str]
"""Locations that may break a rule, each with the reason."""

Allowed = Mapping[str, tuple[int, str]]
"""How often a file breaks a rule, with the reason."""


def find_missing_docstrings(app: Path) -> Iterator[str]:
    """Find modules without a docstring."""
    for name, tree in _parse_modules(app):
        if not ast.get_docstring(tree):
            yield f"{name}: no docstring"


def find_relative_imports(app: Path) -> Iterator[str]:
    for name, tree in _parse_modules(app):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield f"{name}:{node.lineno}: relative import"


def find_long_files(app: Path, exemptions: Exemptions) -> Iterator[str]:
    long: set[str] = set()
    for path in _list_paths(app):
        lines = len(path.read_text().splitlines())
        if lines > MAX_FILE_LINES:
            long.add(_format_path(path, app))
            if _format_path(path, app) not in exemptions:
                yield f"{_format_path(path, app)}: {lines} lines, at most {MAX_FILE_LINES}"
    yield from _find_unneeded(exemptions, long)


def find_long_functions(app: Path, exemptions: Exemptions) -> Iterator[str]:
    long: set[str] = set()
    for name, tree in _parse_modules(app):
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                location = f"{name}:{node.name}"
                long.add(location)
                if location not in exemptions:
                    yield f"{location}: {lines} lines, at most {MAX_FUNCTION_LINES}"
    yield from _find_unneeded(exemptions, long)


def find_vague_names(app: Path) -> Iterator[str]:
    """Find vague names of folders, files and classes, such as `Manager` or `common`."""
    for name, tree in _parse_modules(app):
        if any(_is_vague(part.split("_")) for part in name.removesuffix(".py").split("/")):
            yield f"{name}: vague name of a file or folder"
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and _is_vague(_split_words(node.name)):
                yield f"{name}:{node.lineno}: vague class name {node.name}"


def find_blanket_excepts(app: Path, allowed: Allowed) -> Iterator[str]:
    """Find handlers that hide bugs. The files in `allowed` may have `except Exception`. No file
    may have `except BaseException` or a bare `except`, because they stop cancellation too."""
    found: list[tuple[str, str]] = []
    for name, tree in _parse_modules(app):
        for node, caught in _find_blanket_handlers(tree, _Names(tree)):
            violation = f"{name}:{node.lineno}: catches {caught}"
            if caught == "Exception":
                found.append((name, violation))
            else:
                yield violation
    yield from _find_others(found, allowed)


def find_clock_calls(app: Path, allowed: Allowed) -> Iterator[str]:
    """Find readings of the time outside of the clock, also through imports and their aliases."""
    found: list[tuple[str, str]] = []
    for name, tree in _parse_modules(app):
        names = _Names(tree)
        for node in ast.walk(tree):
            for function in _find_clock_functions(node, names):
                line = getattr(node, "lineno", 0)
                found.append((name, f"{name}:{line}: reads the time by {function}"))
    yield from _find_others(found, allowed)


def find_imports_of(folder: Path, package: str) -> Iterator[str]:
    """Find imports of the package, or of a module in it, in the files of the folder."""
    for name, tree in _parse_modules(folder):
        for node in ast.walk(tree):
            if any(f"{found}.".startswith(f"{package}.") for found in _list_imported(node)):
                yield f"{name}:{getattr(node, 'lineno', 0)}: imports {package}"


class _Names:
    """Resolves the names of a module: imports and assignments."""

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

    def resolve(self, node: ast.expr) -> str | None:
        """Return the full name of `node`, such as `datetime.datetime.now`, or None."""
        return self._resolve(node, frozenset())

    def _resolve(self, node: ast.expr, seen: frozenset[str]) -> str | None:
        if isinstance(node, ast.Attribute):
            parent = self._resolve(node.value, seen)
            return None if parent is None else f"{parent}.{node.attr}"
        if not isinstance(node, ast.Name):
            return None
        if node.id in self._imported:
            return self._imported[node.id]
        if node.id in self._assigned and node.id not in seen:
            return self._resolve(self._assigned[node.id], seen | {node.id})
        return node.id

    def list_elements(self, node: ast.expr) -> Iterator[ast.expr]:
        """Yield the elements of a tuple, also if the tuple is nested or assigned to a name."""
        yield from self._list_elements(node, frozenset())

    def _list_elements(self, node: ast.expr, seen: frozenset[str]) -> Iterator[ast.expr]:
        match node:
            case ast.Tuple(elts=elements):
                for element in elements:
                    yield from self._list_elements(element, seen)
            case ast.Starred(value=value):
                yield from self._list_elements(value, seen)
            case ast.BinOp(left=left, right=right):
                yield from self._list_elements(left, seen)
                yield from self._list_elements(right, seen)
            case ast.Name(id=name) if name in self._assigned and name not in seen:
                yield from self._list_elements(self._assigned[name], seen | {name})
            case _:
                yield node


def _find_blanket_handlers(
    tree: ast.Module, names: _Names
) -> Iterator[tuple[ast.expr | ast.excepthandler, str]]:
    """Yield the handlers and `suppress` calls that catch everything, and what they catch."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield node, "everything"
            else:
                yield from ((node, name) for name in _find_blanket_types(node.type, names))
        elif isinstance(node, ast.Call) and names.resolve(node.func) == "contextlib.suppress":
            for argument in node.args:
                yield from ((node, name) for name in _find_blanket_types(argument, names))


def _find_blanket_types(node: ast.expr, names: _Names) -> Iterator[str]:
    for member in names.list_elements(node):
        name = (names.resolve(member) or "").removeprefix("builtins.")
        if name in {"Exception", "BaseException"}:
            yield name


def _find_clock_functions(node: ast.AST, names: _Names) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if f"{node.module}.{alias.name}" in CLOCK_FUNCTIONS:
                yield f"{node.module}.{alias.name}"
    elif isinstance(node, ast.Attribute):
        dotted = names.resolve(node)
        if dotted in CLOCK_FUNCTIONS:
            yield dotted
        elif node.attr == "time" and dotted != "datetime.time":
            yield "time() of an event loop"
        elif node.attr == "when":
            yield "when() of a timeout or timer"


def _list_imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_vague(words: list[str]) -> bool:
    return bool(VAGUE_WORDS & set(words)) or words[-1] in VAGUE_LAST_WORDS


def _split_words(class_name: str) -> list[str]:
    """Return the words of a class name: `HTTPTargetSpec` is http, target, spec."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+", class_name)
    return [word.lower() for word in words] or [""]


def _find_unneeded(exemptions: Exemptions, used: set[str]) -> Iterator[str]:
    for location in sorted(exemptions.keys() - used):
        yield f"{location}: keeps the rule, so remove it from the exemptions"


def _find_others(found: Sequence[tuple[str, str]], allowed: Allowed) -> Iterator[str]:
    """Of the violations, each with its file: those that are not allowed. And the files that have
    fewer violations than are allowed."""
    seen: Counter[str] = Counter()
    for name, violation in found:
        seen[name] += 1
        if name not in allowed or seen[name] > allowed[name][0]:
            yield violation
    for name, (number, _) in allowed.items():
        if seen[name] < number:
            yield f"{name}: breaks the rule only {seen[name]} times, so allow no more"


def _parse_modules(folder: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in _list_paths(folder):
        yield _format_path(path, folder), ast.parse(path.read_text())


def _list_paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _format_path(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
