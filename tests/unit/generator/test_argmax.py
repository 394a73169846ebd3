"""Where the largest number of each row is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.generator.layers.argmax import argmax


@settings(deadline=None)
@given(
    count=st.integers(0, 4),
    width=st.integers(1, 3000),
    kinds=st.sampled_from([2, 50, 10**6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_the_first_of_equal_ones(count: int, width: int, kinds: int, seed: int) -> None:
    source = np.random.default_rng(seed)
    numbers = source.integers(-kinds, kinds, (count, width)).astype(np.float32)
    assert argmax(torch.from_numpy(numbers)).tolist() == numbers.argmax(axis=1).tolist()


def test_rows_may_have_something_between_them() -> None:
    numbers = torch.randn(5, 300)
    numbers[:, 200:] = 100
    assert argmax(numbers[:, :200]).tolist() == numbers[:, :200].argmax(dim=1).tolist()


@pytest.mark.parametrize("number", [-np.inf, np.nan])
def test_where_there_is_none_a_column_is_given_all_the_same(number: float) -> None:
    [column] = argmax(torch.full((1, 200), number)).tolist()
    assert 0 <= column < 200


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_number_of_threads_finds_the_same(threads: int) -> None:
    before = torch.get_num_threads()
    rows = torch.randn(3, 5)
    torch.set_num_threads(threads)
    try:
        assert argmax(rows).tolist() == rows.argmax(dim=1).tolist()
    finally:
        torch.set_num_threads(before)
