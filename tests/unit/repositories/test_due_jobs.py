"""Which owners have few due jobs."""

from app.repositories.due_jobs import choose_owners


def test_owners_are_chosen_up_to_a_number_of_jobs_together() -> None:
    counts = [{"_id": "a", "count": 2}, {"_id": "b", "count": 3}, {"_id": "c", "count": 4}]
    assert choose_owners(counts, most=5) == ("a", "b")
    assert choose_owners(counts, most=1) == ("a",)
    assert choose_owners([], most=5) == ()
