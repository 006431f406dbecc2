"""`python -m app`."""

import runpy
import sys
from types import ModuleType

import pytest


def test_ctrl_c_while_the_modules_are_imported_ends_the_process_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(ModuleType):
        @property
        def main(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "app.cli", Interrupted("app.cli"))
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("app", run_name="__main__")
    assert caught.value.code == 130
