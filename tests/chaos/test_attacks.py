"""docs/guarantees.md shows the figures of every attack."""

from tests.chaos.hostile.attacks import ATTACKS
from tests.support.documents import DOCS, read_rows


def test_the_table_of_attacks_has_each_of_them() -> None:
    assert [row[0] for row in read_rows(DOCS / "guarantees.md", "attack")] == list(ATTACKS)
