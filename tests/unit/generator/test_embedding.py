import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from services.generator.embedding import Pooling, Vectors, pool

numbers = st.floats(-1000, 1000, width=32)
states = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=numbers)


@given(states=states)
def test_the_mean_weighs_all_tokens_alike(states: Vectors) -> None:
    vector = pool(states, Pooling.MEAN, normalize=False)
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector * len(states), states.sum(axis=0), atol=0.01)


@given(states=states)
def test_the_last_token_stands_for_the_text(states: Vectors) -> None:
    np.testing.assert_array_equal(pool(states, Pooling.LAST, normalize=False), states[-1])


@pytest.mark.parametrize("pooling", Pooling)
@given(states=states)
def test_normalizing_makes_the_length_one_and_keeps_the_direction(
    pooling: Pooling, states: Vectors
) -> None:
    plain, unit = (pool(states, pooling, normalize=normalize) for normalize in (False, True))
    length = float(np.linalg.norm(plain.astype(np.float64)))
    if length:
        assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(unit * length, plain, rtol=1e-3, atol=1e-3)


def test_a_vector_without_a_direction_stays() -> None:
    opposite = np.array([[1, -2], [-1, 2]], np.float32)
    np.testing.assert_array_equal(pool(opposite, Pooling.MEAN, normalize=True), [0, 0])
