"""The product in registers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.layers.compiled import Floats, compiled
from services.generator.layers.product import LANES, ROWS, add_product


@compiled
def add(left: Floats, right: Floats, total: Floats) -> None:
    add_product(left, right, total)


@given(
    rows=st.integers(1, ROWS),
    columns=st.integers(0, 40),
    apart=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_it_adds_the_product_and_touches_nothing_else(
    rows: int, columns: int, apart: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    left, right, total = (
        random.standard_normal(shape, np.float32)
        for shape in ((rows, columns + apart), (columns, LANES + apart), (rows, LANES + apart))
    )
    before = total.copy()
    add(left[:, :columns], right[:, :LANES], total[:, :LANES])
    expected = before[:, :LANES] + left[:, :columns].astype(np.float64) @ right[:, :LANES]
    np.testing.assert_allclose(total[:, :LANES], expected, rtol=1e-4, atol=1e-4)
    assert np.array_equal(total[:, LANES:], before[:, LANES:])


@pytest.mark.parametrize("rows", range(1, ROWS + 1))
def test_a_row_is_the_same_whatever_is_beside_it(rows: int) -> None:
    random = np.random.default_rng(1)
    left, right = (random.standard_normal(shape, np.float32) for shape in ((ROWS, 37), (37, LANES)))
    together = np.zeros((rows, LANES), np.float32)
    add(left[:rows], right, together)
    for row in range(rows):
        alone = np.zeros((1, LANES), np.float32)
        add(left[row : row + 1], right, alone)
        assert np.array_equal(together[row], alone[0])
