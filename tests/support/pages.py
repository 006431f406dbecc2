"""Reads tables of the documentation by their first column, and its marked examples."""

import re
from pathlib import Path


def read_table(page: Path, column: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    lines = iter(page.read_text().splitlines())
    assert any(line.startswith(f"| {column} |") for line in lines), f"no table {column}"
    next(lines)  # the line of hyphens
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" |")])
    return rows


def find_names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def find_blocks(page: Path, test: str, language: str) -> list[str]:
    """Return the examples of a page that are marked with the path of this test."""
    pattern = rf"<!-- \w+ by {re.escape(test)} -->\n```{language}\n(.*?)```"
    return re.findall(pattern, page.read_text(), re.DOTALL)
