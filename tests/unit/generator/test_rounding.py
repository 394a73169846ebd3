"""Rows in eight bits, and the transform that no single large number survives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.linalg import hadamard

from services.generator.layers.hadamard import MOST, columns, transform
from services.generator.layers.int8_product import GATED, OFFSET
from services.generator.layers.rounding import (
    gate_and_round,
    mix_rows,
    mixed_weights,
    peak,
    round_rows,
)

FLOATS = st.floats(-1e6, 1e6, width=32)
WIDTHS = st.integers(1, 40) | st.sampled_from([64, 128, 192])
ROWS = arrays.arrays(np.float32, st.tuples(st.integers(1, 5), WIDTHS), elements=FLOATS)


@pytest.mark.parametrize(
    ("width", "together"),
    [(1, 1), (3, 1), (6, 2), (8, 8), (24, 8), (96, 32), (64, MOST), (128, MOST), (576, MOST)],
)
def test_columns_are_transformed_as_hadamard_matrices_say(width: int, together: int) -> None:
    assert columns(width) == together
    row = np.random.default_rng(1).standard_normal(width, np.float32)
    expected = row.astype(np.float64).reshape(-1, together) @ hadamard(together)
    transform(row)
    np.testing.assert_allclose(row, expected.ravel(), rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(rows=ROWS)
def test_a_row_is_rounded_to_within_half_a_step_of_its_own_scale(rows: np.ndarray) -> None:
    rounded, scales = round_rows(torch.from_numpy(rows))
    mixed = rows.copy()
    mix_rows(mixed)
    numbers = rounded.numpy().astype(np.float64) - OFFSET
    error = np.abs(numbers * scales.numpy() - mixed)
    assert (error <= scales.numpy() * 0.501 + 1e-30).all()
    assert (np.abs(numbers) <= 127).all()


@settings(deadline=None)
@given(rows=ROWS)
def test_products_of_mixed_rows_and_mixed_weights_are_those_of_the_unmixed(
    rows: np.ndarray,
) -> None:
    weights = torch.randn(4, rows.shape[1])
    mixed = rows.copy()
    mix_rows(mixed)
    expected = torch.from_numpy(rows).double() @ weights.T.double()
    given = torch.from_numpy(mixed).double() @ mixed_weights(weights).T.double()
    tolerance = 1e-5 * float(np.abs(rows).sum() + 1)
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("rows", [torch.zeros(3, 40), torch.zeros(0, 40)])
def test_rows_of_nothing_stay_nothing(rows: torch.Tensor) -> None:
    rounded, scales = round_rows(rows)
    assert (rounded == OFFSET).all()
    assert (scales == 0).all()
    assert rounded.shape == rows.shape


@pytest.mark.parametrize("width", [20, 128])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_a_number_that_is_none_is_not_hidden_by_the_others(width: int, place: int) -> None:
    row = np.full(width, -3, np.float32)
    assert peak(row) == 3
    row[place] = np.nan
    assert np.isnan(peak(row))


def test_rows_may_lie_anywhere() -> None:
    wide = torch.randn(5, 100)
    for rows in (wide[:, 3:43], wide[::2, :40], wide.T[:40, :5], wide[:1, :40].expand(4, 40)):
        for mine, expected in zip(round_rows(rows), round_rows(rows.clone()), strict=True):
            assert torch.equal(mine, expected)


@pytest.mark.parametrize("count", [0, 1, 9])
@pytest.mark.parametrize("width", [GATED, 5 * GATED, 8 * GATED])
def test_what_is_gated_is_rounded_in_the_same_pass(count: int, width: int) -> None:
    gate, up = torch.randn(2, count, width // GATED, GATED) * 3
    expected = round_rows((torch.nn.functional.silu(gate) * up).reshape(count, width))
    both = torch.stack([gate, up], dim=2).reshape(count, 2 * width)
    rounded, scales = gate_and_round(both)
    torch.testing.assert_close(scales, expected[1])
    assert ((rounded.int() - expected[0].int()).abs() <= 1).all()
