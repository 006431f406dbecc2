"""The arithmetic of the benchmarks."""

import pytest

from bench.growth import CHUNK, split_into_chunks
from bench.report import compute_percentile


@pytest.mark.parametrize(
    ("share", "value"), [(0, 1), (0.1, 1), (0.5, 5), (0.51, 6), (0.95, 10), (1, 10)]
)
def test_a_percentile_is_the_value_of_the_nearest_rank(share: float, value: float) -> None:
    values = [float(n) for n in range(10, 0, -1)]
    assert compute_percentile(values, share) == value


@pytest.mark.parametrize("count", [0, 1, 500, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_the_chunks_have_exactly_as_many_numbers_as_jobs_are_asked_for(count: int) -> None:
    numbers = [n for chunk in split_into_chunks(count) for n in chunk]
    assert numbers == list(range(count))
