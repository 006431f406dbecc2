"""What to send instead of the name of a time zone that does not exist."""

import pytest

from app.schemas.json_types import time_zones
from app.schemas.suggestions import advise_on_zone


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("EUROPE/BERLIN", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("Amerika/New_York", "America/New_York"),
        ("America/New York", "America/New_York"),
        ("Asia/Calcuta", "Asia/Calcutta"),
        ("utc", "UTC"),
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("Kolkata", "Asia/Kolkata"),
    ],
)
def test_a_name_in_other_letters_gets_the_nearest_zone(name: str, zone: str) -> None:
    assert advise_on_zone(name, time_zones()) == f"did you mean {zone}?"


@pytest.mark.parametrize("name", ["UTC+1", "GMT-05:00", "+02:00", "utc+5:30"])
def test_an_offset_gets_the_zones_of_offsets(name: str) -> None:
    assert "Etc/GMT-1 is UTC+01:00" in advise_on_zone(name, time_zones())


@pytest.mark.parametrize("name", ["", "CEST", "PST", "Mars/Olympus", "../../etc/passwd", "x" * 64])
def test_a_name_that_is_similar_to_none_gets_an_example(name: str) -> None:
    assert advise_on_zone(name, time_zones()) == "send a name such as Europe/Berlin"
