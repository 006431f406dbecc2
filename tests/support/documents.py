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
