"""The exact index: brute force, in float32."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from services.recommender.index import exact
from services.recommender.index.exact import ExactIndex, best
from services.recommender.index.interface import VectorIndex, Vectors
from tests.unit.recommender.index.index_suite import (
    SONGS,
    VECTORS,
    VectorIndexSuite,
    asked,
    by_hand,
    mask,
    seeds,
    shares,
    songs,
)


class TestExactIndex(VectorIndexSuite):
    @classmethod
    def make(cls, vectors: Vectors) -> VectorIndex:
        return ExactIndex(vectors)

    @given(seed=seeds, share=shares, limit=st.integers(1, SONGS + 10))
    def test_scores_are_those_of_brute_force_in_float64(
        self, index: VectorIndex, seed: int, share: float, limit: int
    ) -> None:
        queries, allowed = asked(seed), mask(seed, share)
        found = index.search(queries, limit, allowed)
        expected = -np.sort(-by_hand(VECTORS, queries)[:, allowed], axis=1)[:, :limit]
        np.testing.assert_allclose(found.scores, expected, rtol=1e-5, atol=1e-4)

    @given(data=st.data())
    def test_whole_numbers_are_ranked_as_by_hand(self, data: st.DataObject) -> None:
        """Products of small whole numbers have no rounding, and many are equal."""
        count = data.draw(st.integers(1, 40))
        small = st.integers(-2, 2).map(float)
        vectors = data.draw(arrays.arrays(np.float32, (count, 2), elements=small))
        queries = data.draw(arrays.arrays(np.float32, (2, 2), elements=small))
        allowed = data.draw(arrays.arrays(np.bool_, count))
        limit = data.draw(st.integers(1, 45))
        found = ExactIndex(vectors).search(queries, limit, allowed)
        for query, positions in zip(queries, found.positions, strict=True):
            scores = (vectors @ query).tolist()
            order = sorted(np.flatnonzero(allowed).tolist(), key=lambda k: (-scores[k], k))
            assert positions.tolist() == order[:limit]

    def test_many_queries_are_answered_in_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        queries, allowed = asked(1, 23), mask(1, 0.5)
        expected = ExactIndex(VECTORS).search(queries, 5, allowed)
        monkeypatch.setattr(exact, "_PRODUCTS_AT_ONCE", 4 * SONGS)
        found = ExactIndex(VECTORS).search(queries, 5, allowed)
        np.testing.assert_array_equal(found.positions, expected.positions)

    def test_one_vector_is_the_best(self) -> None:
        found = ExactIndex(songs(1, 1)).search(asked(1), 5)
        assert found.positions.tolist() == [[0], [0], [0]]


class TestBest:
    @settings(max_examples=200)
    @given(
        scores=arrays.arrays(
            np.float32,
            st.integers(1, 60),
            elements=st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, 1.0]),
        ),
        data=st.data(),
    )
    def test_equals_a_full_sort(self, scores: NDArray[np.float32], data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(scores)))
        order = sorted(range(len(scores)), key=lambda k: (-scores[k], k))
        assert best(scores, count).tolist() == order[:count]
