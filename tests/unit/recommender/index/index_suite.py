"""What every index promises; each index's test class inherits it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.recommender.index.interface import Mask, Neighbours, VectorIndex, Vectors

SONGS, DIMENSIONS = 600, 16

seeds = st.integers(0, 2**32 - 1)
shares = st.sampled_from([0.0, 0.004, 0.03, 0.06, 0.2, 0.5, 0.9, 0.998, 1.0])


def songs(seed: int = 3, count: int = SONGS) -> Vectors:
    """Vectors in groups, of different lengths, and far from the origin, like those of songs."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(12, DIMENSIONS))
    vectors = centres[random.integers(12, size=count)] + random.normal(size=(count, DIMENSIONS)) / 2
    vectors *= random.lognormal(0, 0.2, size=(count, 1))
    return (vectors + 1).astype(np.float32)


def asked(seed: int, count: int = 3) -> Vectors:
    """Queries that are none of the vectors."""
    return songs(seed, count) - 2


def mask(seed: int, share: float, count: int = SONGS) -> Mask:
    return np.random.default_rng(seed).random(count) < share


def by_hand(vectors: Vectors, queries: Vectors) -> NDArray[np.float64]:
    return queries.astype(np.float64) @ vectors.astype(np.float64).T


def check_form(
    found: Neighbours, vectors: Vectors, queries: Vectors, limit: int, allowed: Mask
) -> None:
    """Whatever was found: it is all that was asked for, allowed, in order and rightly scored."""
    k = min(limit, int(allowed.sum()))
    assert found.positions.shape == found.scores.shape == (len(queries), k)
    assert found.positions.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert allowed[found.positions].all()
    exact = np.take_along_axis(by_hand(vectors, queries), found.positions, axis=1)
    np.testing.assert_allclose(found.scores, exact, rtol=1e-5, atol=1e-4)
    for positions, scores in zip(found.positions, found.scores, strict=True):
        assert len(set(positions.tolist())) == k
        later = scores[1:] < scores[:-1]
        assert np.all(later | ((scores[1:] == scores[:-1]) & (positions[1:] > positions[:-1])))


VECTORS = songs()


class VectorIndexSuite(ABC):
    @classmethod
    @abstractmethod
    def make(cls, vectors: Vectors) -> VectorIndex: ...

    @pytest.fixture(scope="class")
    @classmethod
    def index(cls) -> Iterator[VectorIndex]:
        index = cls.make(VECTORS)
        yield index
        index.close()

    # Each class that inherits the test runs it: these are the executors that differ.
    @settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(seed=seeds, share=shares, limit=st.integers(1, SONGS + 10))
    def test_an_answer_is_whole_allowed_ordered_and_rightly_scored(
        self, index: VectorIndex, seed: int, share: float, limit: int
    ) -> None:
        queries, allowed = asked(seed), mask(seed, share)
        check_form(index.search(queries, limit, allowed), VECTORS, queries, limit, allowed)

    @pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01])
    def test_the_best_are_found(self, index: VectorIndex, share: float) -> None:
        queries, allowed = asked(5, 100), mask(5, share)
        found = index.search(queries, 6, allowed)
        scores = np.where(allowed, by_hand(VECTORS, queries), -np.inf)
        expected = np.argsort(-scores, axis=1)[:, : found.positions.shape[1]]
        hits = [len(np.intersect1d(*rows)) for rows in zip(found.positions, expected, strict=True)]
        assert sum(hits) >= 0.95 * expected.size

    def test_everything_is_allowed_when_nothing_is_said(self, index: VectorIndex) -> None:
        queries = asked(6)
        plain, all_allowed = index.search(queries, 9), index.search(queries, 9, mask(0, 1.0))
        np.testing.assert_array_equal(plain.positions, all_allowed.positions)
        np.testing.assert_array_equal(plain.scores, all_allowed.scores)

    def test_what_is_excluded_makes_room_for_the_next(self, index: VectorIndex) -> None:
        queries = asked(7, 1)
        allowed = mask(0, 1.0)
        ranked = index.search(queries, SONGS).positions[0]
        allowed[ranked[:40]] = False
        assert index.search(queries, 5, allowed).positions[0].tolist() == ranked[40:45].tolist()

    def test_only_the_worst_are_allowed(self, index: VectorIndex) -> None:
        queries = asked(8, 1)
        ranked = index.search(queries, SONGS).positions[0]
        allowed = np.isin(np.arange(SONGS), ranked[-SONGS // 4 :])
        found = index.search(queries, 10, allowed).positions[0]
        assert np.isin(found, ranked[-SONGS // 4 :]).all()
        assert len(found) == 10

    def test_nothing_is_found_where_nothing_is_allowed(self, index: VectorIndex) -> None:
        found = index.search(asked(9, 2), 5, mask(0, 0.0))
        assert found.positions.shape == found.scores.shape == (2, 0)

    def test_no_query_has_no_answer(self, index: VectorIndex) -> None:
        found = index.search(np.empty((0, DIMENSIONS), np.float32), 5)
        assert found.positions.shape == found.scores.shape == (0, 5)

    def test_a_query_without_direction_likes_all_equally(self, index: VectorIndex) -> None:
        found = index.search(np.zeros((1, DIMENSIONS), np.float32), SONGS)
        assert found.positions[0].tolist() == list(range(SONGS))
        assert not found.scores.any()

    def test_queries_are_answered_together_as_one_by_one(self, index: VectorIndex) -> None:
        queries, allowed = asked(10, 20), mask(10, 0.5)
        together = index.search(queries, 8, allowed)
        for row, query in enumerate(queries):
            alone = index.search(query[np.newaxis], 8, allowed)
            np.testing.assert_array_equal(alone.positions[0], together.positions[row])
            np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-5, atol=1e-5)

    def test_threads_may_search_at_a_time(self, index: VectorIndex) -> None:
        work = [(asked(seed), 10, mask(seed, 0.3)) for seed in range(16)]
        expected = [index.search(*arguments).positions.tolist() for arguments in work]
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda arguments: index.search(*arguments), work))
        assert [answer.positions.tolist() for answer in found] == expected

    def test_vectors_may_be_mapped_from_disk(self, index: VectorIndex, tmp_path: Path) -> None:
        np.save(tmp_path / "vectors.npy", songs())
        mapped = self.make(np.load(tmp_path / "vectors.npy", mmap_mode="r"))
        queries, allowed = asked(11), mask(11, 0.5)
        found, expected = (each.search(queries, 5, allowed) for each in (mapped, index))
        np.testing.assert_array_equal(found.positions, expected.positions)
        mapped.close()

    def test_the_layout_of_queries_does_not_matter(self, index: VectorIndex) -> None:
        queries = asked(12, 6)
        expected = index.search(queries, 5).positions
        for same in (np.asfortranarray(queries), np.repeat(queries, 2, axis=0)[::2]):
            np.testing.assert_array_equal(index.search(same, 5).positions, expected)

    def test_arguments_are_left_as_they_are(self, index: VectorIndex) -> None:
        queries, allowed = asked(13), mask(13, 0.5)
        index.search(queries, 5, allowed)
        np.testing.assert_array_equal(VECTORS, songs())
        np.testing.assert_array_equal(queries, asked(13))
        np.testing.assert_array_equal(allowed, mask(13, 0.5))

    @pytest.mark.parametrize(
        ("queries", "limit", "allowed", "problem"),
        [
            (asked(0).astype(np.float64), 5, None, "float64"),
            (asked(0)[0], 5, None, "float32"),
            (asked(0)[:, :3].copy(), 5, None, "3 dimensions, not 16"),
            (np.full((1, DIMENSIONS), np.nan, np.float32), 5, None, "not finite"),
            (np.full((1, DIMENSIONS), -np.inf, np.float32), 5, None, "not finite"),
            (asked(0), 0, None, "at least 1"),
            (asked(0), 5, mask(0, 0.5)[:-1], "bool"),
            (asked(0), 5, mask(0, 0.5).astype(np.int64), "int64"),
        ],
    )
    def test_other_forms_are_refused(
        self,
        index: VectorIndex,
        queries: Vectors,
        limit: int,
        allowed: Mask | None,
        problem: str,
    ) -> None:
        with pytest.raises(ValueError, match=problem):
            index.search(queries, limit, allowed)

    @pytest.mark.parametrize(
        "vectors",
        [
            np.empty((0, 4), np.float32),
            np.empty((4, 0), np.float32),
            np.ones((4, 4)),
            np.ones(4, np.float32),
            np.array([[1, np.nan]], np.float32),
            np.array([[1, 1e30]], np.float32),
        ],
    )
    def test_vectors_that_cannot_be_searched_are_refused(self, vectors: Vectors) -> None:
        with pytest.raises(ValueError, match="vector"):
            self.make(vectors)

    def test_it_may_be_closed_twice(self) -> None:
        index = self.make(songs())
        index.close()
        index.close()
