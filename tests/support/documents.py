"""Reads the tables and the examples of the documents in docs/."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_JSON_BLOCK = re.compile(r"(?:<!-- (?P<call>[^\n]*?) -->\n)?```json\n(?P<body>.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class JsonExample:
    """A JSON block of a page, and the call in the comment before it, such as `POST /jobs: 201`."""

    call: str | None
    body: str


def read_table(page: Path, heading: str) -> list[dict[str, str]]:
    """Return the rows of the first table below a heading, by the names of the columns."""
    lines = page.read_text().splitlines()
    (at,) = (n for n, line in enumerate(lines) if line.lstrip("#").strip() == heading)
    assert lines[at].startswith("#"), heading
    start = next(n for n in range(at, len(lines)) if lines[n].startswith("|"))
    columns = _split_row(lines[start])
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(columns, _split_row(line), strict=True)))
    return rows


def read_rows(page: Path, column: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    lines = iter(page.read_text().splitlines())
    assert any(line.startswith(f"| {column} |") for line in lines), f"no table {column}"
    next(lines)  # the line of hyphens
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(_split_row(line))
    return rows


def find_names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def find_blocks(page: Path, test: str, language: str) -> list[str]:
    """Return the examples of a page that are marked with the path of this test."""
    pattern = rf"<!-- \w+ by {re.escape(test)} -->\n```{language}\n(.*?)```"
    return re.findall(pattern, page.read_text(), re.DOTALL)


def read_json_examples(page: Path) -> list[JsonExample]:
    return [
        JsonExample(match["call"], match["body"])
        for match in _JSON_BLOCK.finditer(page.read_text())
    ]


def read_code(cell: str) -> str:
    """Return the only piece of code in a cell."""
    code: str
    (code,) = re.findall(r"`([^`]*)`", cell)
    return code


def _split_row(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
