"""The largest of many numbers: the compiled loops against a sort."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.recommender.selection import largest

numbers = st.floats(allow_nan=False) | st.sampled_from([0.0, 1.0, -1.0])


@settings(max_examples=500, deadline=None)
@given(st.lists(numbers, max_size=40), st.integers(1, 45))
def test_the_largest_are_those_that_a_sort_puts_last(values: list[float], count: int) -> None:
    rows = largest(np.array(values, np.float64), count).tolist()
    assert rows == sorted(rows)
    # -0.0 is taken for less than 0.0, which the order of floats leaves open.
    ranked = sorted((value, np.copysign(1, value), row) for row, value in enumerate(values))
    assert rows == sorted(row for _, _, row in ranked[-count:])


def test_of_equal_values_the_last_are_taken() -> None:
    assert largest(np.array([1.0, 3.0, 1.0, 1.0, 0.0]), 3).tolist() == [1, 2, 3]
