"""The rules of the layout that a machine can hold: who imports whom, and who asks for the time."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "app"

BASE = {"errors", "clock", "security", "logs", "metrics"}
STORE = {"repositories", "targets", "cache", "rate_limit", "wake", "middleware"}
SHAPES = {"schemas", "policies", "models", "triggers"}
EVERYTHING = (
    BASE | STORE | SHAPES | {"services", "engine", "routers", "web", "settings", "embedded"}
)

MAY_IMPORT: dict[str, set[str]] = {
    "__main__": {"cli"},
    "main": EVERYTHING | {"runtime"},
    "cli": EVERYTHING | {"runtime", "main"},
    "runtime": EVERYTHING - {"routers", "web"},
    "embedded": {"settings"} | BASE,
    "settings": BASE,
    "routers": {"runtime", "services"} | SHAPES | BASE,
    "web": {"runtime", "services"} | SHAPES | BASE,
    "engine": {"services", "repositories", "targets", "cache", "wake", "policies"}
    | {"models", "triggers"}
    | BASE,
    "services": (STORE - {"middleware"}) | SHAPES | BASE,
    **{layer: {"models", "triggers"} | BASE for layer in STORE},
    "schemas": {"policies", "models", "triggers"} | BASE,
    "policies": {"models", "triggers"} | BASE,
    "models": {"triggers", "errors"},
    "triggers": {"errors"},
    **{module: set[str]() for module in BASE},
}
"""Each layer (a folder or a module of `app/`) and the other layers it may import."""

FENCES: dict[str, set[str]] = {
    "motor": {"repositories/mongo.py"},
    "pymongo": {"repositories", "runtime.py", "embedded"},
    "bson": {"repositories", "runtime.py", "embedded"},
    "fastapi": {"main.py", "routers", "web", "middleware"},
    "aiohttp": {"targets", "runtime.py"},
    "redis": {"cache.py", "rate_limit.py", "wake.py", "targets", "runtime.py", "embedded"},
    "jose": {"security.py"},
    "passlib": {"security.py"},
    "croniter": {"triggers"},
}
"""Packages that only these files or folders may import."""

MODULES = sorted(APP.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(APP).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    layer = layer_of(path)
    if layer == "__init__":
        return
    for name in imports_of(path):
        if name.startswith("app."):
            imported = name.split(".")[1]
            assert imported == layer or imported in MAY_IMPORT[layer], f"{layer} imports {name}"


@pytest.mark.parametrize("package", sorted(FENCES))
def test_a_fenced_package_stays_inside_its_fence(package: str) -> None:
    for path in MODULES:
        here = path.relative_to(APP)
        if package in {name.split(".")[0] for name in imports_of(path)}:
            assert {str(here), here.parts[0]} & FENCES[package], f"{here} imports {package}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_owns(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_blanket_excepts_are_the_loops_and_the_executors() -> None:
    allowed = {"engine/loop.py", "engine/executor.py", "engine/recorder.py"}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                if caught in {"Exception", "BaseException", "everything"}:
                    assert str(path.relative_to(APP)) in allowed


def test_nobody_but_the_clock_asks_for_the_time() -> None:
    for path in MODULES:
        if path.name == "clock.py":
            continue
        names = {
            ast.unparse(n)
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Attribute)
        }
        assert not names & {"datetime.now", "datetime.utcnow", "time.time", "time.monotonic"}, path


def test_names_say_more_than_manager() -> None:
    banned = ("Manager", "Helper", "Util", "Impl")
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                assert not node.name.endswith(banned), f"{path}: {node.name}"
