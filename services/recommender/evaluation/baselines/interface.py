"""What every baseline promises."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from services.recommender.evaluation.ragged import Numbers, batches, owners_of
from services.recommender.playlists import Playlists

_BATCH = 512


class Baseline(ABC):
    """A method that learns from playlists and gives every song a score after a history.

    >>> from services.recommender.evaluation.baselines.rules import Markov
    >>> baseline = Markov()
    >>> baseline.fit(Playlists.from_lists([[0, 1, 2], [0, 1]]), songs=3)
    >>> positions, scores = baseline.recommend(Playlists.from_lists([[0]]), limit=1)
    >>> positions.tolist()
    [[1]]
    """

    @abstractmethod
    def fit(self, playlists: Playlists, songs: int) -> None:
        """Learn from playlists of the positions 0 to `songs` - 1; forgets what was learnt before.

        The same playlists always give the same scores.
        """

    @abstractmethod
    def scores(self, histories: Playlists) -> NDArray[np.float32]:
        """Score all songs after each of n histories, float32 (n, songs).

        A higher score is a better song; 0 says that nothing speaks for it or against it. The songs
        of the history have scores that mean nothing.
        """

    def recommend(self, histories: Playlists, limit: int) -> tuple[Numbers, NDArray[np.float32]]:
        """See `Recommender`; songs that nothing speaks for or against are left out.

        Songs that score the same are ordered by position.
        """
        parts = [self._recommend(batch, limit) for batch in batches(histories, _BATCH)]
        positions, scores = zip(*parts, strict=True)
        return np.concatenate(positions), np.concatenate(scores)

    def _recommend(self, histories: Playlists, limit: int) -> tuple[Numbers, NDArray[np.float32]]:
        scores = self.scores(histories)
        scores[scores == 0] = -np.inf
        scores[owners_of(histories), histories.songs] = -np.inf
        return _best(scores, limit)


def _best(scores: NDArray[np.float32], limit: int) -> tuple[Numbers, NDArray[np.float32]]:
    """The highest scores of each row, without sorting it all; -inf is never among them."""
    count = min(limit, scores.shape[1])
    least = -np.partition(-scores, count - 1, axis=1)[:, count - 1 : count]
    above, level = scores > least, scores == least
    room = count - np.count_nonzero(above, axis=1, keepdims=True)
    chosen = above | (level & (np.cumsum(level, axis=1, dtype=np.int32) <= room))
    positions = np.nonzero(chosen)[1].reshape(-1, count)
    values = np.take_along_axis(scores, positions, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    positions = np.take_along_axis(positions, order, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    positions[values == -np.inf] = -1
    unused = ((0, 0), (0, limit - count))
    return (
        np.pad(positions, unused, constant_values=-1),
        np.pad(values, unused, constant_values=-np.inf),
    )
