"""The documents explain every public value, each can be found, and their links are valid."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from app.models.execution import MOVES, ExecutionStatus, Reason, Truncation
from app.models.job import PauseReason
from app.models.policy import CatchUpMode, OverlapPolicy
from app.schemas.forecasts import Verdict
from tests.support.documents import find_names, read_rows

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_IMAGE = re.compile(r"!\[([^\]]+)\]\(([^)\s]+)\)")
_COLORED = re.compile(r"\.([a-z]+) {([^}]+)}")
_CODE = re.compile(r"```.*?```", re.DOTALL)


def test_how_it_works_explains_each_reason_once() -> None:
    rows = read_rows(DOCS / "how-it-works.md", "`reason`")
    assert [find_names(row[0]) for row in rows] == [[reason] for reason in Reason]
    assert all(row[2] for row in rows)


def test_how_it_works_explains_each_truncation_once() -> None:
    rows = read_rows(DOCS / "how-it-works.md", "`truncated_reason`")
    *named, (null, _) = rows
    assert [find_names(row[0]) for row in named] == [[reason] for reason in Truncation]
    assert null == "null"


def test_how_it_works_lists_exactly_the_legal_moves_between_statuses() -> None:
    documented = {
        status: set(find_names(moves)) - {"none"}
        for statuses, moves in read_rows(DOCS / "how-it-works.md", "status")
        for status in find_names(statuses)
    }
    assert documented == {status: set(MOVES[status]) for status in ExecutionStatus}


def test_how_it_works_explains_each_overlap_policy_once() -> None:
    rows = read_rows(DOCS / "how-it-works.md", "policy")
    assert [find_names(row[0])[0] for row in rows] == list(OverlapPolicy)


def test_how_it_works_explains_each_catch_up_policy() -> None:
    text = (DOCS / "how-it-works.md").read_text()
    assert set(re.findall(r"^- `(\w+)`.* executes ", text, re.MULTILINE)) >= set(CatchUpMode)


def test_the_api_page_explains_each_verdict_and_names_each_reason() -> None:
    page = DOCS / "api.md"
    assert [find_names(row[0]) for row in read_rows(page, "`verdict`")] == [[v] for v in Verdict]
    assert set(find_names(page.read_text())) >= {*Reason, *Truncation}


def test_the_api_page_explains_each_reason_of_a_pause_once() -> None:
    text = (DOCS / "api.md").read_text()
    assert re.findall(r"its `pause_reason` is `(\w+)`", text) == list(PauseReason)


def test_the_index_lists_every_decision_once() -> None:
    rows = read_rows(DOCS / "decisions" / "README.md", "page")
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


def test_the_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_readme_names_both_commands_and_links_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    commands, _, rest = text.partition("## The first job")
    assert {"| `make run` |", "| `make test` |"} <= set(re.findall(r"\| `[^`]+` \|", commands))
    linked = {
        link.partition("#")[0] for link in _LINK.findall(rest.split("## What to read next")[1])
    }
    pages = {f"docs/{path.name}" for path in DOCS.glob("*.md")}
    assert linked >= pages | {"docs/decisions/README.md", "CHANGELOG.md"}


def test_the_picture_in_the_readme_describes_itself_and_is_readable_on_light_and_dark() -> None:
    ((alternative, source),) = _IMAGE.findall((ROOT / "README.md").read_text())
    picture = ElementTree.parse(ROOT / source).getroot()
    svg = "{http://www.w3.org/2000/svg}"
    assert picture.findtext(f"{svg}desc") == alternative
    light, dark = str(picture.findtext(f"{svg}style")).split("@media (prefers-color-scheme: dark)")
    colors = dict(_COLORED.findall(light)), dict(_COLORED.findall(dark))
    assert set(colors[0]) == set(colors[1])
    assert colors[0]["page"] != colors[1]["page"]  # the background, so that it suits any page
    drawn = [one for one in picture.iter() if one.tag not in (f"{svg}svg", f"{svg}g")]
    assert not [one for one in drawn if {"fill", "stroke", "style"} & set(one.attrib)]
