"""Approximate indexes, whatever they propose: the answer is whole, allowed, and scored exactly."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.recommender.index.approximate import ApproximateIndex, fingerprint
from services.recommender.index.exact import ExactIndex
from services.recommender.index.interface import Mask, Vectors
from tests.unit.recommender.index.index_suite import (
    SONGS,
    VECTORS,
    asked,
    check_form,
    mask,
    seeds,
    shares,
    songs,
)


class Guessing(ApproximateIndex):
    """Proposes at random, here and there nothing, and what is not allowed too."""

    def __init__(self, seed: int) -> None:
        super().__init__(VECTORS)
        self._random = np.random.default_rng(seed)

    def close(self) -> None: ...

    def _candidates(self, queries: Vectors, count: int, allowed: Mask | None) -> NDArray[np.int64]:
        longer = min(SONGS, count + 5)
        rows = np.array([self._random.permutation(SONGS)[:longer] for _ in queries])
        rows[self._random.random(rows.shape) < 0.1] = -1
        return rows


@dataclass
class Given(ApproximateIndex):
    """Proposes what it was given."""

    proposals: NDArray[np.int64]

    def __post_init__(self) -> None:
        super().__init__(VECTORS)

    def close(self) -> None: ...

    def _candidates(self, queries: Vectors, count: int, allowed: Mask | None) -> NDArray[np.int64]:
        return self.proposals


@settings(deadline=None)
@given(seed=seeds, share=shares, limit=st.integers(1, SONGS + 10))
def test_an_answer_is_whole_allowed_ordered_and_rightly_scored(
    seed: int, share: float, limit: int
) -> None:
    queries, allowed = asked(seed), mask(seed, share)
    found = Guessing(seed).search(queries, limit, allowed)
    check_form(found, VECTORS, queries, limit, allowed)


def test_the_best_of_what_is_proposed_is_found() -> None:
    found = Given(np.array([[5, -1, 9, 2, 7]])).search(asked(1, 1), 3)
    scores = VECTORS[[5, 9, 2, 7]] @ asked(1, 1)[0]
    best = np.array([5, 9, 2, 7])[np.argsort(-scores)][:3]
    assert found.positions.tolist() == [best.tolist()]


def test_too_few_proposals_are_replaced_by_an_exact_answer() -> None:
    proposals = np.array([[1, 2, 3, 4], [1, -1, -1, -1]])
    found = Given(proposals).search(asked(2, 2), 3)
    expected = ExactIndex(VECTORS).search(asked(2, 2), 3)
    assert set(found.positions[0].tolist()) < {1, 2, 3, 4}
    assert found.positions[1].tolist() == expected.positions[1].tolist()


def test_proposals_that_are_not_allowed_do_not_count() -> None:
    allowed = mask(0, 1.0)
    allowed[[1, 2]] = False
    found = Given(np.array([[1, 2, 3, 4]])).search(asked(3, 1), 3, allowed)
    expected = ExactIndex(VECTORS).search(asked(3, 1), 3, allowed)
    assert found.positions.tolist() == expected.positions.tolist()


def test_few_vectors_that_are_allowed_are_searched_exactly() -> None:
    allowed = np.arange(SONGS) < SONGS // 20 - 1
    found = Guessing(1).search(asked(4, 9), 5, allowed)
    expected = ExactIndex(VECTORS).search(asked(4, 9), 5, allowed)
    np.testing.assert_array_equal(found.positions, expected.positions)


def test_a_fingerprint_is_that_of_vectors_and_settings() -> None:
    changed = VECTORS.copy()
    changed[-1, -1] = np.nextafter(changed[-1, -1], np.float32(9))
    names = {
        fingerprint(VECTORS),
        fingerprint(VECTORS, "a"),
        fingerprint(VECTORS, "a", "b"),
        fingerprint(VECTORS, "ab"),
        fingerprint(VECTORS.reshape(-1, 2)),
        fingerprint(changed),
    }
    assert len(names) == 6
    assert fingerprint(songs(), "a") == fingerprint(np.asfortranarray(VECTORS), "a")
