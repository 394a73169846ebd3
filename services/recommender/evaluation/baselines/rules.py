"""Rules "who plays this song plays that one", counted over pairs of plays.

Kamehkhosh, Jannach and Ludewig (2017), "A comparison of frequent pattern techniques and a deep
learning method for session-based recommendation"; Ludewig and Jannach (2018), "Evaluation of
session-based recommendation algorithms".
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.recommender.evaluation.baselines.incidence import recent
from services.recommender.evaluation.baselines.interface import Baseline
from services.recommender.evaluation.ragged import owners_of
from services.recommender.playlists import Playlists

_POPULARITY = 1e-3
"""What the most played song counts for that, where the best one by the rules counts 1."""


class _Rules(Baseline):
    """The sum of the rules from each song of the history, the latest counting most.

    Songs that the rules do not tell apart are ordered by their popularity: counts tie often, and
    ties are broken against a model, which would be held weaker than it is.

    Args:
        weights: What a pair of plays counts that are 1, 2, 3, … places apart.
        discount: What a song of the history counts, compared with the one played after it; 0 for
            the last one alone.
        both_ways: Whether a rule holds in either direction.
    """

    def __init__(self, weights: Sequence[float], discount: float, both_ways: bool) -> None:
        self._weights = weights
        self._discount = discount
        self._both_ways = both_ways

    def fit(self, playlists: Playlists, songs: int) -> None:
        """See `Baseline`."""
        plays = np.bincount(playlists.songs, minlength=songs)
        self._popularity = (_POPULARITY * plays / plays.max()).astype(np.float32)
        self._rules = _count_pairs(playlists, songs, self._weights)
        if self._both_ways:
            self._rules = self._rules + self._rules.T

    def scores(self, histories: Playlists) -> NDArray[np.float32]:
        """See `Baseline`."""
        seeds = recent(histories, self._rules.shape[0], self._discount)
        evidence = (seeds @ self._rules).toarray()
        best = evidence.max(axis=1, keepdims=True)
        scores: NDArray[np.float32] = evidence / np.where(best > 0, best, 1) + self._popularity
        return scores


class Markov(_Rules):
    """How often a song came directly after the last one."""

    def __init__(self) -> None:
        super().__init__([1], discount=0, both_ways=False)


class SequentialRules(_Rules):
    """How often a song came after those of the history: 1/distance for each of the ten before it.

    Scored from the whole history: from the last song alone, as in the papers, the rules hit a
    quarter less often. The discount was chosen on the validation parts of yes_big and yes_small.
    """

    def __init__(self) -> None:
        super().__init__([1 / distance for distance in range(1, 11)], discount=0.9, both_ways=False)


class Association(_Rules):
    """How often a song was played within twenty places of those of the history.

    From the whole history, as with `SequentialRules`.
    """

    def __init__(self) -> None:
        super().__init__([1] * 20, discount=0.9, both_ways=True)


def _count_pairs(playlists: Playlists, songs: int, weights: Sequence[float]) -> sparse.csr_array:
    """The weight of all pairs of a song (row) and one played later in its playlist (column)."""
    plays, owners = playlists.songs, owners_of(playlists)
    counts = sparse.csr_array((songs, songs), dtype=np.float32)
    for distance, weight in enumerate(weights, 1):
        same = owners[:-distance] == owners[distance:]
        pairs = plays[:-distance][same], plays[distance:][same]
        values = np.full(len(pairs[0]), weight, np.float32)
        counts = counts + sparse.csr_array((values, pairs), shape=(songs, songs))
    return counts
