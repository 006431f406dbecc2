"""Whose jobs a scheduler reads if there are more than one round fires."""

from app.repositories.due_jobs import interleave_job_ids

OWNERS = [{"_id": "a", "ids": ["a1", "a2", "a3"]}, {"_id": "b", "ids": ["b1"]}]


def test_each_owner_has_a_job_before_another_one_has_its_second() -> None:
    assert interleave_job_ids(OWNERS, limit=10) == (["a1", "b1", "a2", "a3"], "a")
    assert interleave_job_ids(OWNERS, limit=2) == (["a1", "b1"], "b")


def test_without_a_due_job_nobody_has_a_turn() -> None:
    assert interleave_job_ids([], limit=10) == ([], "")
