"""Songs of the playlists that are most like the history."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.recommender.evaluation.baselines.incidence import incidence
from services.recommender.evaluation.baselines.interface import Baseline
from services.recommender.evaluation.ragged import lengths_of
from services.recommender.playlists import Playlists

# Chosen on the validation parts of yes_big and yes_small.
_NEIGHBOURS = 100
_DISCOUNT = 0.9


class SessionKnn(Baseline):
    """VSKNN of Ludewig and Jannach (2018), "Evaluation of session-based recommendation algorithms".

    The neighbours are the playlists most similar to the history: songs in common count by their
    inverse document frequency, and long playlists are held down as by a cosine. A song's score is
    the sum of the similarities of the neighbours that have it, each discounted by how long ago the
    latest song in common was played, and weighted by the song's inverse document frequency.

    Of the paper's variants, those were taken that did best on validation: recency counts in the
    score and not in the similarity too, and neighbours are chosen among all playlists, as the
    corpora do not tell which are recent. All playlists that tie with the last neighbour are in.
    """

    def fit(self, playlists: Playlists, songs: int) -> None:
        """See `Baseline`."""
        self._sessions = incidence(playlists, songs)
        self._by_song = self._sessions.T.tocsr()
        self._lengths = np.sqrt(self._sessions.sum(axis=1))
        self._idf = np.log(len(playlists) / np.maximum(1, self._sessions.sum(axis=0)))

    def scores(self, histories: Playlists) -> NDArray[np.float32]:
        """See `Baseline`."""
        common = incidence(histories, len(self._idf)) * self._idf
        similarities = (common @ self._by_song).toarray() / self._lengths
        weights = sparse.csr_array(_nearest(similarities) * self._recency(histories))
        scores: NDArray[np.float32] = (weights @ self._sessions).toarray() * (1 + self._idf)
        return scores

    def _recency(self, histories: Playlists) -> NDArray[np.float32]:
        """What a playlist (column) counts after a history (row), by their latest common song."""
        recency = np.zeros((len(histories), len(self._lengths)), np.float32)
        lengths, ends = lengths_of(histories), histories.offsets[1:]
        for age in reversed(range(lengths.max(initial=0))):
            rows = np.flatnonzero(lengths > age)
            holders = self._by_song[histories.songs[ends[rows] - 1 - age]].tocoo()
            # From the oldest song on, so that a later one overwrites it.
            recency[rows[holders.row], holders.col] = _DISCOUNT**age
        return recency


def _nearest(similarities: NDArray[np.float32]) -> NDArray[np.float32]:
    """The similarities without those below the `_NEIGHBOURS`-th highest of each row."""
    place = max(0, similarities.shape[1] - _NEIGHBOURS)
    least = np.partition(similarities, place, axis=1)[:, place : place + 1]
    return np.where(similarities >= least, similarities, np.float32(0))
