"""The documentation explains every public value, and its links are valid."""

import re
from pathlib import Path

import pytest

from app.models.execution import MOVES, ExecutionStatus, Reason, Truncation
from app.models.job import PauseReason
from app.models.policy import CatchUpMode, OverlapPolicy
from app.schemas.forecasts import Verdict
from tests.support.documents import find_names, read_table

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```", re.DOTALL)


def test_how_it_works_explains_each_reason_once() -> None:
    rows = read_table(DOCS / "how-it-works.md", "`reason`")
    assert [find_names(row[0]) for row in rows] == [[reason] for reason in Reason]
    assert all(row[2] for row in rows)


def test_how_it_works_explains_each_truncation_once() -> None:
    rows = read_table(DOCS / "how-it-works.md", "`truncated_reason`")
    *named, (null, _) = rows
    assert [find_names(row[0]) for row in named] == [[reason] for reason in Truncation]
    assert null == "null"


def test_how_it_works_lists_exactly_the_legal_moves_between_statuses() -> None:
    documented = {
        status: set(find_names(moves)) - {"none"}
        for statuses, moves in read_table(DOCS / "how-it-works.md", "status")
        for status in find_names(statuses)
    }
    assert documented == {status: set(MOVES[status]) for status in ExecutionStatus}


def test_how_it_works_explains_each_overlap_policy_once() -> None:
    rows = read_table(DOCS / "how-it-works.md", "policy")
    assert [find_names(row[0])[0] for row in rows] == list(OverlapPolicy)


def test_how_it_works_explains_each_catch_up_policy() -> None:
    text = (DOCS / "how-it-works.md").read_text()
    assert set(re.findall(r"^- `(\w+)`.* executes ", text, re.MULTILINE)) >= set(CatchUpMode)


def test_the_api_page_explains_each_verdict_and_names_each_reason() -> None:
    page = DOCS / "api.md"
    assert [find_names(row[0]) for row in read_table(page, "`verdict`")] == [[v] for v in Verdict]
    assert set(find_names(page.read_text())) >= {*Reason, *Truncation}


def test_the_api_page_explains_each_reason_of_a_pause_once() -> None:
    text = (DOCS / "api.md").read_text()
    assert re.findall(r"its `pause_reason` is `(\w+)`", text) == list(PauseReason)


def test_the_index_lists_every_decision_once() -> None:
    rows = read_table(DOCS / "decisions" / "README.md", "page")
    listed = [match for row in rows for match in _LINK.findall(row[0])]
    assert listed == sorted(path.name for path in (DOCS / "decisions").glob("0*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, link
